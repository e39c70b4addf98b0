"""An engine held against the local one: at its start, and after every load of weights.

The prompts are longer than a block of keys (128 tokens on a CPU under vLLM) where the context
allows, and always the same ones. So an engine that answers from keys of older weights does it here
too, and an engine that ignores a load shows as soon as the weights have moved by the limit.

It samples at a temperature other than 1, where what a token was drawn at is not what the logits
alone say of it: an engine that tells the latter is right at 1, and at any other temperature its
rollouts would be held against wrong ratios. Above 1, since there a model that is sure of its text
is drawn elsewhere too: on the tiny base in bfloat16 that fault comes to a mismatch KL of 0.68 at
1.5, and to 0.075 at 0.7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pipeline.parity import Figures, Limits, Pair, Parity, figures
from pipeline.ports import (
    Confidences,
    Engine,
    Sample,
    SampleRequest,
    ScoreRequest,
    Scores,
    WeightedEngine,
)
from pipeline.types import Line

State = Mapping[str, Tensor]

LONG, BEHIND, WRITTEN = 160, 16, 16  # tokens of a prompt, of what follows it, of a completion
SEEDS = (11, 12)
TEMPERATURE = 1.5
TEXTS = (
    "Question: Ann has 12 apples and gives 5 of them to Ben. How many are left to her? Think step "
    "by step before you answer. She had 12, she gave 5 away, so 12 - 5 = 7 are left. The answer "
    "is 7.\n",
    "The river rises in the hills behind the old mill, runs through two small towns and reaches "
    "the sea after ninety miles. In a dry summer one can cross it on foot; in spring nobody "
    "tries.\n",
    "def total(numbers):\n    result = 0\n    for number in numbers:\n        result += number\n"
    "    return result\n\nprint(total([3, 1, 4, 1, 5, 9, 2, 6]))  # 31\n",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """What both engines are asked, the same every time.

    prompts   token ids, for sampling and for scoring
    behind    token ids that follow a prompt, scored as they are and behind one another
    """

    prompts: tuple[tuple[int, ...], ...]
    behind: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, encode: Callable[[str], tuple[int, ...]], context: int) -> Probe:
        """Texts of its own, cut to what a model of that context reads.

        Raises ValueError for a context of fewer than 33 tokens.
        """
        room = min(LONG, context - BEHIND - WRITTEN)
        if room < 1:
            raise ValueError(f"a row of {context} tokens is too short to compare engines on")
        ids = [encode(text) for text in TEXTS]
        prompts = tuple((one * (room // len(one) + 1))[:room] for one in ids)
        return cls(prompts, tuple(one[:BEHIND] for one in ids))

    def sampling(self) -> list[SampleRequest]:
        """Every prompt under every seed."""
        return [SampleRequest(prompt, SEEDS) for prompt in self.prompts]

    def scoring(self) -> list[ScoreRequest]:
        """Behind every prompt each fixed text, and behind the first of them the others."""
        first, *others = self.behind
        return [
            ScoreRequest(prompt, ((), first), (self.behind, tuple(others)))
            for prompt in self.prompts
        ]


class Reference(Protocol):
    """The local engine, as far as others are held against it."""

    def score(self, requests: Sequence[ScoreRequest], *, temperature: float = 1.0) -> list[Scores]:
        """Log-probabilities at that temperature of every target token, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Against:
    """What an engine is held against, and who is told.

    name     the engine's
    line     whose weights it holds
    local    an engine of this process that reads these weights; kept for one comparison only
    tell     is handed every comparison, before a refusal is raised
    """

    name: str
    line: Line
    local: Callable[[State], Reference]
    probe: Probe
    limits: Limits
    tell: Callable[[Parity], None]


class EngineMismatch(RuntimeError):
    """An engine does not answer as the weights do that it was handed; parity: what it came to."""

    def __init__(self, parity: Parity, held: str) -> None:
        super().__init__(told(parity, held))
        self.parity = parity


class Paired:
    """Fills `ports.WeightedEngine` with another's answers, held against the local engine.

    It is compared after every load, and before its first answer where none came yet. Past a limit
    it answers nothing: EngineMismatch is raised then, and again for whatever else is asked.
    """

    def __init__(self, engine: WeightedEngine, start: State, against: Against) -> None:
        """start: the weights that the engine has begun with."""
        self._engine, self._against = engine, against
        self._unproven: tuple[State, str] | None = (start, engine.version)

    @property
    def version(self) -> str:
        """Id of the weights that answer now."""
        return self._engine.version

    def load(self, state: State, version: str) -> None:
        """Hand the weights on, and compare. Raises EngineMismatch past a limit."""
        self._unproven = (state, version)
        self._engine.load(state, version)
        self.prove()

    def prove(self) -> None:
        """Compare, unless these weights were found well. Raises EngineMismatch past a limit."""
        if self._unproven is None:
            return
        state, version = self._unproven
        found = compare(self._engine, self._against.local(state), self._against.probe)
        same = self._engine.version == version
        parity = _parity(self._against, version, found, same=same)
        self._against.tell(parity)
        if not parity.accepted:
            raise EngineMismatch(parity, self._engine.version)
        self._unproven = None

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """As the engine samples. Raises EngineMismatch where it must not answer."""
        self.prove()
        return self._engine.sample(requests, max_tokens=max_tokens, temperature=temperature)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """As the engine scores. Raises EngineMismatch where it must not answer."""
        self.prove()
        return self._engine.score(requests)

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """As the engine confides. Raises EngineMismatch where it must not answer."""
        self.prove()
        return self._engine.confide(requests)

    def close(self) -> None:
        """End what the engine started."""
        self._engine.close()


def compare(engine: Engine, local: Reference, probe: Probe) -> Figures:
    """Ask both the same, and say how far they are apart."""
    fixed, sampled = probe.scoring(), _sampled(engine, local, probe)
    return figures(sampled, _pairs(engine.score(fixed), local.score(fixed)))


def told(parity: Parity, held: str) -> str:
    """A refusal in words: figures, limits, what to do. held: the version the engine says it has."""
    found, limits = parity.figures, parity.limits
    kl = "not sampled" if found.mismatch_kl is None else f"{found.mismatch_kl:.3g}"
    other = f" and says that it holds {held}" if held != parity.version else ""
    return (
        f"{parity.engine} does not answer as {parity.version} does{other}: over {found.tokens} "
        f"tokens the largest difference from the local engine's log-probabilities is "
        f"{found.max_difference:.3g} nats (limit {limits.difference:.3g}, mean "
        f"{found.mean_difference:.3g}), the mismatch KL {kl} (limit {limits.kl:.3g}).\n"
        "It holds other weights, or answers from keys of older ones: nothing that it wrote since "
        f"is used. `coclimb doctor --engine {parity.engine}` compares again on the base; "
        'engine.sampler and engine.scorer "local" need no other process; where only arithmetic '
        "differs, raise engine.parity_difference or engine.parity_kl"
    )


def _parity(against: Against, version: str, found: Figures, *, same: bool) -> Parity:
    step = int(version.rpartition("@")[2])
    accepted = same and found.within(against.limits)
    return Parity(against.name, against.line, version, step, found, against.limits, accepted)


def _sampled(engine: Engine, local: Reference, probe: Probe) -> list[Pair]:
    """What the engine says of its own completions, and what the local one says of them."""
    groups = engine.sample(probe.sampling(), max_tokens=WRITTEN, temperature=TEMPERATURE)
    requests = [
        ScoreRequest(prompt, ((),), (tuple(sample.tokens for sample in group),))
        for prompt, group in zip(probe.prompts, groups, strict=True)
    ]
    own: list[Scores] = [(tuple(sample.logprobs for sample in group),) for group in groups]
    return _pairs(own, local.score(requests, temperature=TEMPERATURE))


def _pairs(engine: Sequence[Scores], local: Sequence[Scores]) -> list[Pair]:
    """Token by token. Raises ValueError where one says more of a request than the other."""
    pairs: list[Pair] = []
    for ours, theirs in zip(_flat(engine), _flat(local), strict=True):
        pairs += zip(ours, theirs, strict=True)
    return pairs


def _flat(scores: Sequence[Scores]) -> list[tuple[float, ...]]:
    return [target for request in scores for context in request for target in context]
