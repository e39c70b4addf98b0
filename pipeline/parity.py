"""How far an engine's log-probabilities lie from those of the local one, and how far they may.

Tokens that the engine sampled are compared by the log-probability it says it drew them at, fixed
ones by the one it scores them at. With d = local - engine of a token, in nats:

    difference    |d|, of every token compared
    mismatch KL   mean of exp(d) - 1 - d over the sampled tokens

The latter estimates KL(engine || local) per token without bias, since the tokens are the engine's
own, and is never negative (k3 of Schulman's "Approximating KL divergence", as GRPO's, arXiv
2402.03300); the plain mean of -d estimates the same and may be negative. As in verl, no d counts
for more than `CAP`, and one that is not a number counts as `CAP`: every figure is finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.settings.engine import EngineConfig
from pipeline.types import Line

CAP = 20.0  # nats
# in float32 two ways of summing differ by about 1e-6 a token, in bfloat16 by some hundredths
LARGEST = {"float32": 1e-4, "bfloat16": 0.5}

Pair = tuple[float, float]  # what the engine says of a token, and what the local one says


@dataclass(frozen=True, slots=True)
class Limits:
    """What a comparison may come to, both bounds included.

    difference  of one token's log-probability, in nats
    kl          mismatch KL, in nats per token
    """

    difference: float
    kl: float

    @classmethod
    def of(cls, config: EngineConfig, dtype: Literal["float32", "bfloat16"]) -> Limits:
        """Those of a configuration, for weights in `dtype`."""
        return cls(config.parity_difference or LARGEST[dtype], config.parity_kl)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a comparison came to, in nats, all finite.

    tokens          how many were compared
    max_difference  the largest |d|, at most `CAP`; 0 where nothing was compared
    mean_difference their mean
    mismatch_kl     per sampled token, >= 0; None where none was sampled
    """

    tokens: int
    max_difference: float
    mean_difference: float
    mismatch_kl: float | None

    def within(self, limits: Limits) -> bool:
        """Whether no figure is past its limit."""
        return self.max_difference <= limits.difference and (self.mismatch_kl or 0.0) <= limits.kl


@dataclass(frozen=True, slots=True)
class Parity:
    """One comparison of an engine with the local one, under the weights of a version.

    engine    its name: "vllm", "batching"
    line      whose weights it holds
    step      the step of its line that made them, 0 for the base
    accepted  whether the run may go on with the engine
    """

    engine: str
    line: Line
    version: str
    step: int
    figures: Figures
    limits: Limits
    accepted: bool


def figures(sampled: Sequence[Pair], scored: Sequence[Pair]) -> Figures:
    """What the pairs come to; the order of neither matters."""
    of_sampled = [difference(*pair) for pair in sampled]
    every = [abs(d) for d in (*of_sampled, *(difference(*pair) for pair in scored))]
    return Figures(
        tokens=len(every),
        max_difference=max(every, default=0.0),
        mean_difference=math.fsum(every) / len(every) if every else 0.0,
        mismatch_kl=mismatch_kl(of_sampled) if of_sampled else None,
    )


def difference(engine: float, local: float) -> float:
    """d = local - engine of a token, in [-CAP, CAP]; CAP where either is not a number."""
    d = local - engine
    return CAP if math.isnan(d) else min(max(d, -CAP), CAP)


def mismatch_kl(differences: Sequence[float]) -> float:
    """Mean of exp(d) - 1 - d, >= 0; differences of tokens that the engine sampled, at least one."""
    return math.fsum(math.expm1(d) - d for d in differences) / len(differences)
