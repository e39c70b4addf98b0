"""What is read off the logits from which a token was to come, at temperature 1 and in float32.

Log-probabilities alone can be had at another temperature, to hold a sampler's against.
A look takes logits [n, V] of any dtype and the tokens [n] that came, and gives one row of numbers
[n] per kind: so scoring and confiding are one pass with two looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Look = Callable[[Tensor, Tensor], Tensor]  # logits [n, V], tokens [n] -> [kinds, n] float32

CHUNK = 2**22  # logits held in float32 beside those of the model: 16 MB


def logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each token, [1, n], of the distribution drawn from at a temperature."""
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    return -nn.functional.cross_entropy(logits, tokens, reduction="none")[None]


def confidences(words: int) -> Look:
    """Log-probability, certainty and entropy of each token's distribution, [3, n], in nats.

    certainty  KL(uniform || p) = -ln V - mean_j ln p_j, >= 0 (Intuitor, arXiv 2505.19590; its code
               leaves out -ln V, a constant)
    entropy    -sum_j p_j ln p_j, in [0, ln V]

    V is `words`, the ids that stand for a token; where the head has more rows, those are padding
    that no text ever trained, and their logits, which may be anything, would decide the mean: p is
    then the distribution among the first `words` ids. Log-probabilities are those of `logprobs`,
    among all ids, bit for bit.
    """
    uniform = math.log(words)

    def look(logits: Tensor, tokens: Tensor) -> Tensor:
        size = max(1, CHUNK // logits.shape[1])
        parts = zip(logits.split(size), tokens.split(size), strict=True)
        found = [chunk(*part) for part in parts]
        return torch.cat(found, dim=1) if found else logits.new_zeros((3, 0)).float()

    def chunk(logits: Tensor, tokens: Tensor) -> Tensor:
        logs = logits[:, :words].float().log_softmax(-1)
        certainty = (-uniform - logs.mean(-1)).clamp_(min=0.0)
        entropy = torch.special.entr(logs.exp()).sum(-1).clamp_(0.0, uniform)
        return torch.cat([logprobs(logits, tokens), torch.stack([certainty, entropy])])

    return look
