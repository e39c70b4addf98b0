"""Surrogates: what a policy's loss may be, per written token, to be minimised.

Rollouts of the weights in training have a ratio of 1 in value: all of these then follow their
advantages, but for `pacs`, which follows its rewards. A loss of a whole rollout stands on each of
its tokens: under objective.aggregate "sequence" it counts once, else once a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.objectives import clipped, dual_clipped, pessimist, ratio_of
from pipeline.settings.objective import ObjectiveConfig

PACS_BETA = 1.0  # scale of a rollout's log ratio (arXiv 2509.02522)
DPPO_REACH = 0.2  # how far a token's probability may move (arXiv 2602.04879; prime-rl)
DPPO_PULL = 1e-3  # weight of its squared log ratio
SAPO_RISE, SAPO_FALL = 1.0, 1.05  # temperatures of the soft gate (arXiv 2511.20347)


@dataclass(frozen=True, slots=True)
class Slots:
    """Written tokens of a micro-batch, as a surrogate reads them.

    logprobs    [S]  under the policy in training; carries the gradient
    old         [S]  under the weights at the start of the update
    sampled     [S]  when sampled, as the sampler told them
    advantages  [S]
    owner       [S]  the rollout that each belongs to, from 0
    rollouts         B, how many there are
    groups      [B]  the group that each rollout belongs to
    rewards     [B]  what each rollout earned
    """

    logprobs: Tensor
    old: Tensor
    sampled: Tensor
    advantages: Tensor
    owner: Tensor
    rollouts: int
    groups: Tensor
    rewards: Tensor


def clip(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """-min(r*A, clip(r, 1 - clip_low, 1 + clip_high)*A), r = exp(logprobs - old) of each token.

    advantages  [S], any
    ->          loss [S], any finite number; at A < 0 at most dual_clip * |A|, where that is not 0
    Source: PPO, arXiv 1707.06347; clip_high above clip_low is DAPO's, arXiv 2503.14476.
    """
    loss, acted = clipped(
        slots.logprobs, slots.old, slots.advantages, config.clip_low, config.clip_high
    )
    return dual_clipped(loss, slots.advantages, config.dual_clip), acted


def gspo(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """The clipped loss with one ratio per rollout: the geometric mean of its tokens'.

    advantages  [S], any
    ->          loss [S], any finite number, a rollout's on each of its tokens; clips by rollout
    Source: GSPO, arXiv 2507.18071, whose clip widths are 3e-4 and 4e-4.
    """
    return _by_rollout(sequence_ratio(slots), slots, config)


def product(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """The clipped loss with one ratio per rollout: the product of its tokens'.

    advantages  [S], any
    ->          loss [S], any finite number, a rollout's on each of its tokens; long rollouts reach
                the clip sooner
    Source: RLOO, arXiv 2402.14740, as TRL's RLOOTrainer clips it.
    """
    return _by_rollout(ratio_of(_sums(slots.logprobs - slots.old, slots)), slots, config)


def cispo(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """-clip(r) * A * logprobs, the clipped ratio a weight without gradient: no token is silenced.

    advantages  [S], any
    ->          loss [S]; the weight is in [1 - clip_low, 1 + clip_high]
    Source: CISPO, arXiv 2506.13585.
    """
    ratio = ratio_of((slots.logprobs - slots.old).detach())
    bounded = ratio.clamp(1.0 - config.clip_low, 1.0 + config.clip_high)
    return -bounded * slots.advantages * slots.logprobs, bounded != ratio


def pg(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """-A * logprobs: the plain policy gradient, without a ratio and without a clip.

    advantages  [S], any
    ->          loss [S], any finite number; its value says nothing, its gradient all
    Source: Williams, Machine Learning 8, 1992. For rollouts of the weights in training.
    """
    return -slots.advantages * slots.logprobs, _never(slots)


def sapo(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """-A * 4/t * sigmoid(t * (r - 1)), t = 1 where A > 0, else 1.05: a gate in place of a clip.

    advantages  [S], any
    ->          loss [S], any finite number, whose gradient fades on either side of r = 1 and never
                jumps
    Source: SAPO, arXiv 2511.20347.
    """
    ratio = ratio_of(slots.logprobs - slots.old)
    heat = torch.where(slots.advantages > 0, SAPO_RISE, SAPO_FALL)
    gate = 4.0 / heat * torch.sigmoid(heat * (ratio - 1.0))
    return -slots.advantages * gate, _never(slots)


def dppo(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """-A * r where a token's probability has not moved by 0.2 in A's direction, + 1e-3 * log(r)^2.

    sampled     [S]  r is the trainer's over the sampler's probability, never clipped
    advantages  [S], any; rollouts of advantage 0 are read for the second part
    ->          loss [S], any finite number
    Source: DPPO, arXiv 2602.04879, as prime-rl has it. Its ratio corrects for the sampler by
    itself: no correction on top.
    """
    gaps = slots.logprobs - slots.sampled
    moved = (slots.logprobs.exp() - slots.sampled.exp()).detach()
    rising = slots.advantages > 0
    masked = torch.where(rising, moved > DPPO_REACH, moved < -DPPO_REACH)
    gain = torch.where(masked, 0.0, slots.advantages * ratio_of(gaps))
    return -gain + DPPO_PULL * gaps**2, masked


def pacs(slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """BCE(psi, R): reinforcement as telling right from wrong among siblings.

    psi      a rollout's sum of (logprobs - old), less the mean of its siblings'
    rewards  [B], each exactly 1 or 0; advantages only tell which groups are dead
    ->       loss [S], at least 0, a rollout's on each of its tokens; on policy its gradient is that
             of RLOO with summed tokens
    Source: PACS, arXiv 2509.02522, beta 1. Raises ValueError for a reward that is neither. All
    siblings are read together, so a group's memory is no longer bounded by learner.token_budget.
    """
    odd = slots.rewards[(slots.rewards != 0.0) & (slots.rewards != 1.0)]
    if len(odd):
        raise ValueError(
            f"pacs learns to tell rewards of 1 from 0, got {odd[0].item():g}; choose a reward that "
            "gives these alone, or another objective.surrogate"
        )
    scores = PACS_BETA * _sums(slots.logprobs - slots.old, slots)
    lost = torch.nn.functional.binary_cross_entropy_with_logits(
        _left_out(scores, slots.groups), slots.rewards, reduction="none"
    )
    return lost[slots.owner], _never(slots)


Surrogate = Callable[[Slots, ObjectiveConfig], tuple[Tensor, Tensor]]  # loss [S], clip acted [S]
SURROGATES: dict[str, Surrogate] = {
    "clip": clip,
    "gspo": gspo,
    "product": product,
    "cispo": cispo,
    "pg": pg,
    "sapo": sapo,
    "dppo": dppo,
    "pacs": pacs,
}

EVERY_ROW = ("dppo", "pacs")  # these learn from rollouts whose advantage is 0 too
WHOLE_GROUPS = ("pacs",)  # these need siblings in one micro-batch
OF_ATTEMPTS = ("pacs",)  # right and wrong exist for attempts alone; proposals then take "clip"


def surrogate_of(config: ObjectiveConfig, role: str) -> str:
    """The name of the loss that a role's rollouts take."""
    proposed = role == "generator" and config.surrogate in OF_ATTEMPTS
    return "clip" if proposed else config.surrogate


def sequence_ratio(slots: Slots) -> Tensor:
    """exp of the mean log ratio of each rollout's tokens, [B]; 1 for a rollout without tokens."""
    counts = torch.bincount(slots.owner, minlength=slots.rollouts).clamp(min=1)
    return ratio_of(_sums(slots.logprobs - slots.old, slots) / counts)


def _by_rollout(ratios: Tensor, slots: Slots, config: ObjectiveConfig) -> tuple[Tensor, Tensor]:
    """The clipped loss with each rollout's own ratio, ratios [B]."""
    ratio = ratios[slots.owner]
    loss, acted = pessimist(ratio, slots.advantages, config.clip_low, config.clip_high)
    return dual_clipped(loss, slots.advantages, config.dual_clip), acted


def _sums(values: Tensor, slots: Slots) -> Tensor:
    """Per rollout, values [S] -> [B]."""
    return values.new_zeros(slots.rollouts).index_add(0, slots.owner, values)


def _left_out(scores: Tensor, groups: Tensor) -> Tensor:
    """Each score less the mean of its siblings', [B]; 0 for one that has none."""
    size = int(groups.max()) + 1
    totals = scores.new_zeros(size).index_add(0, groups, scores)[groups]
    others = torch.bincount(groups, minlength=size)[groups] - 1
    return torch.where(others > 0, scores - (totals - scores) / others.clamp(min=1), 0.0)


def _never(slots: Slots) -> Tensor:
    """No token was clipped, [S]."""
    return torch.zeros_like(slots.advantages, dtype=torch.bool)
