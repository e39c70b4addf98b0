"""Objectives learn: per-token losses, to be minimised. How they are summed is the learner's.

Log ratios are clamped to [-20, 20] before exp (as verl does): beyond that a token has no gradient
in place of an infinity. No token of a healthy run comes near.
"""

from __future__ import annotations

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
    ratio = torch.exp((logprobs - old).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
    bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    loss = -torch.minimum(ratio * advantages, bounded * advantages)
    above = (advantages > 0) & (ratio > 1.0 + clip_high)
    below = (advantages < 0) & (ratio < 1.0 - clip_low)
    return loss, above | below


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = reference - logprobs: per token >= 0, its mean the KL divergence.

    Unbiased in value for tokens sampled from the policy; its gradient is not the divergence's own.
    """
    gap = (reference - logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return torch.expm1(gap) - gap


def answer_nll(logprobs: Tensor, weights: Tensor) -> Tensor:
    """-weight * log-probability of each reference token after the sampled reasoning.

    logprobs  [tokens]  of the reference, under the policy in training
    weights   [tokens]  or broadcastable: each rollout's raw reward, >= 0, never its advantage
    (VeriFree, arXiv 2505.21493: the second term of its gradient)
    """
    return -weights * logprobs
