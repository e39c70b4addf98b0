"""Objectives that learn from stored rollouts: what each takes of a group, and its loss.

Nothing is sampled. With g = log p(y) - log p0(y), summed over the tokens that a rollout y wrote,
p the policy in training and p0 the weights it started from (those of round 0):

    qrpo      mean over completions of (q - beta log Z - beta g)^2, at least 0, q the quantile of
              the reward (QRPO, arXiv 2507.08068)
    dpo       mean over groups of -log sigmoid(beta (g_best - g_worst)), at least 0
              (arXiv 2305.18290)
    sft       mean over tokens of -log p(reference and closing tag | prompt, reasoning and opening
              tag of the rollout that earned most), at least 0 (after STaR, arXiv 2203.14465,
              which imitates the reasoning too)
    best_sft  mean over tokens of -log p(completion), at least 0, for the completions whose
              reasoning helped the reference most (Foster et al., NeurIPS 2024 Language
              Gamification workshop)

Malformed rollouts are outcomes of low reward: qrpo and dpo learn from them what not to write;
sft and best_sft, which imitate, leave them out. A group whose rewards are all equal teaches qrpo
and dpo nothing: it has no best and worst, and every quantile of equals is 1, which would make
likelier whatever was written, broken text too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.config import RewardConfig
from pipeline.quantiles import quantiles
from pipeline.rewards import judge
from pipeline.settings.offline import OfflineConfig
from pipeline.types import Evidence, Judged

ADVANTAGE = RewardConfig(name="reasoning_advantage")


@dataclass(frozen=True, slots=True)
class Pick:
    """A rollout that an objective takes from its group.

    seat   index into the group's rollouts
    value  what the loss holds its g against: qrpo the quantile; of the others none reads it
    """

    seat: int
    value: float = 1.0


Take = Callable[[Judged, OfflineConfig], list[Pick]]  # [] where the group teaches nothing
Loss = Callable[[Tensor, Tensor, OfflineConfig], Tensor]  # g [R], values [R] -> the step's mean


@dataclass(frozen=True, slots=True)
class Offline:
    """An objective: what it takes of a group, and what of that carries its loss.

    loss  of all g of a step together; None for the mean over tokens of -log p
    on    the text that carries the loss: all that the rollout wrote, or the task's reference
          spliced in behind the rollout's reasoning
    """

    take: Take
    loss: Loss | None = None
    on: Literal["completion", "reference"] = "completion"


def log_partition(beta: float) -> float:
    """log Z of QRPO for quantiles uniform in [0, 1]: log(beta) + log(exp(1 / beta) - 1).

    beta > 0, however small. The released code drops the -1, which is 0.46 too much at beta 1.
    """
    return math.log(beta) + 1 / beta + math.log(-math.expm1(-1 / beta))


def qrpo_losses(gaps: Tensor, quantiles: Tensor, beta: float, log_z: float) -> Tensor:
    """(q - beta log Z - beta g)^2 per completion, [R]; 0 where g is the optimum of its quantile."""
    return (quantiles - beta * log_z - beta * gaps).square()


def dpo_losses(best: Tensor, worst: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta (g_best - g_worst)) per pair, [P]; ln 2 before the first step."""
    return -torch.nn.functional.logsigmoid(beta * (best - worst))


def _qrpo(gaps: Tensor, values: Tensor, config: OfflineConfig) -> Tensor:
    return qrpo_losses(gaps, values, config.beta, log_partition(config.beta)).mean()


def _dpo(gaps: Tensor, values: Tensor, config: OfflineConfig) -> Tensor:
    best, worst = gaps.view(-1, 2).unbind(1)
    return dpo_losses(best, worst, config.beta).mean()


def take_all(judged: Judged, config: OfflineConfig) -> list[Pick]:
    """Every rollout that could be judged, with its quantile; none of a group of equals."""
    shares = quantiles(judged.rewards)
    if len(set(shares)) < 2:
        return []
    return [Pick(seat, share) for seat, share in zip(judged.kept, shares, strict=True)]


def take_pair(judged: Judged, config: OfflineConfig) -> list[Pick]:
    """The rollouts of highest and of lowest reward, in this order; none of a group of equals."""
    if len(set(judged.rewards)) < 2:
        return []
    told = list(zip(judged.kept, judged.rewards, strict=True))
    return [Pick(_first(judged, told)), Pick(_first(judged, [(s, -r) for s, r in told]))]


def take_best(judged: Judged, config: OfflineConfig) -> list[Pick]:
    """The well-formed rollout of highest reward."""
    told = zip(judged.kept, judged.rewards, strict=True)
    formed = [(s, r) for s, r in told if judged.group.transcripts[s].form == "ok"]
    return [Pick(_first(judged, formed))] if formed else []


def take_reasoned(judged: Judged, config: OfflineConfig) -> list[Pick]:
    """The well-formed rollouts of highest reasoning advantage, up to top_share of them.

    The advantage is (L0 - L) / L0 from the stored evidence, whatever reward trained; it must
    exceed least_advantage.
    """
    evidence = [one for one in judged.evidence if isinstance(one, Evidence)]
    again = judge(judged.group, evidence, ADVANTAGE)
    told = zip(again.kept, again.components["reasoning"], strict=True)
    measured = [(s, value) for s, value in told if evidence[s].status == "measured"]
    most = math.ceil(config.top_share * len(measured))
    ranked = sorted(measured, key=lambda one: (-one[1], judged.group.rollouts[one[0]].id))
    return [Pick(s) for s, value in ranked[:most] if value > config.least_advantage]


def _first(judged: Judged, told: Sequence[tuple[int, float]]) -> int:
    """The seat of the largest number; of equals the one whose rollout's id comes first."""
    return min(told, key=lambda one: (-one[1], judged.group.rollouts[one[0]].id))[0]


OBJECTIVES: dict[str, Offline] = {
    "qrpo": Offline(take_all, _qrpo),
    "sft": Offline(take_best, on="reference"),
    "best_sft": Offline(take_reasoned),
    "dpo": Offline(take_pair, _dpo),
}
