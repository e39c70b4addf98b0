"""Objectives learn: per-token losses, to be minimised. How they are summed is the learner's.

What a policy's own loss may be stands in `surrogates`; here is what several of them are made of,
what corrects for the sampler, divergences from the starting weights, and the answer term.

Log ratios are clamped to [-20, 20] before exp (as verl does): beyond that a token has no gradient
in place of an infinity. No token of a healthy run comes near.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0


def clipped(
    logprobs: Tensor, old: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """-min(r*A, clip(r, 1 - clip_low, 1 + clip_high)*A) with r = exp(logprobs - old).

    logprobs    [tokens]  under the policy in training; carries the gradient
    old         [tokens]  under the weights at the start of the update
    advantages  [tokens]  or broadcastable to it
    ->          loss [tokens], and a mask [tokens] of where the clip acted: gain cut off at A > 0
                and r > 1 + clip_high, or at A < 0 and r < 1 - clip_low. A ratio out of range on
                the other side is not clipped, and not counted

    clip_high above clip_low is DAPO's clip-higher (arXiv 2503.14476).
    """
    return pessimist(ratio_of(logprobs - old), advantages, clip_low, clip_high)


def dual_clipped(loss: Tensor, advantages: Tensor, cap: float) -> Tensor:
    """The loss, at A < 0 no more than cap * |A| (dual clip, arXiv 1912.09729); cap 0 is no cap.

    Without it a token whose ratio has exploded may outweigh the whole step.
    """
    if cap == 0:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -cap * advantages), loss)


def ratio_of(gaps: Tensor) -> Tensor:
    """exp of log ratios, clamped to LOG_RATIO_LIMIT on either side."""
    return torch.exp(gaps.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))


def pessimist(
    ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """The smaller of the gains of ratio and clipped ratio as a loss, and where that cut one off."""
    bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    loss = -torch.minimum(ratio * advantages, bounded * advantages)
    above = (advantages > 0) & (ratio > 1.0 + clip_high)
    below = (advantages < 0) & (ratio < 1.0 - clip_low)
    return loss, above | below


def correction(
    old: Tensor, sampled: Tensor, owner: Tensor, rollouts: int, kind: str, cap: float
) -> Tensor:
    """What a loss is multiplied by because the sampler's arithmetic is not the trainer's, [S].

    By kind:

        token          min(w, cap), in [0, cap]
        sequence       min(product of w over the rollout, cap) on each of its tokens, in [0, cap]
        token_mask     w where it is at most cap, else 0; in [0, cap]
        sequence_mask  the product of w over the rollout on each of its tokens where it is at most
                       cap, else 0; in [0, cap]

    w is exp(old - sampled) of a token. A loss is multiplied by this because the sampler's
    arithmetic is not the trainer's.

    old, sampled  [S]  log-probabilities by the trainer and by the sampler, of the same weights
    owner         [S]  the rollout that each belongs to, below `rollouts`
    cap           objective.correction_cap, at least 1

    Never a gradient. This ratio is not the surrogate's: that one tells how far the update moved.
    A rollout's ratio is a product, so long ones pass a cap sooner. Source: truncated and masked
    importance sampling, as GRPOTrainer of huggingface/trl has it.
    """
    gaps = (old - sampled).detach()
    if kind.startswith("sequence"):
        gaps = gaps.new_zeros(rollouts).index_add(0, owner, gaps)[owner]
    ratio = ratio_of(gaps)
    return torch.where(ratio > cap, 0.0, ratio) if kind.endswith("mask") else ratio.clamp(max=cap)


def k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """logprobs - reference: per token of either sign, its mean the KL divergence.

    Its gradient is 0 on average: it belongs in a reward, not in a loss. The reward "kl" is its sum,
    from what the meter "start" reads of each written token; whoever has both as tensors takes this.
    """
    return logprobs - reference


def k2(logprobs: Tensor, reference: Tensor) -> Tensor:
    """d^2 / 2 with d = reference - logprobs: the divergence's gradient, a biased value.

    logprobs, reference  [S], of tokens sampled from the policy
    ->                   [S], >= 0
    Source: J. Schulman, Approximating KL Divergence, 2020 (verl names it mse).
    """
    return 0.5 * (reference - logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT) ** 2


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = reference - logprobs: the divergence's value, another gradient.

    logprobs, reference  [S], of tokens sampled from the policy
    ->                   [S], >= 0, its mean the KL divergence
    Source: GRPO, arXiv 2402.03300; J. Schulman, Approximating KL Divergence, 2020.
    """
    gap = (reference - logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return torch.expm1(gap) - gap


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k2": k2, "k3": k3}


def answer_nll(logprobs: Tensor, weights: Tensor) -> Tensor:
    """-weight * log-probability of each reference token after the sampled reasoning.

    logprobs  [tokens]  of the reference, under the policy in training
    weights   [tokens]  or broadcastable: each rollout's raw reward, >= 0, never its advantage
    (VeriFree, arXiv 2505.21493: the second term of its gradient)
    """
    return -weights * logprobs
