"""What log-probabilities, answers and scores amount to, with 95 % intervals. Pure functions.

Log-probabilities are natural, one per scored token, at temperature 1. A number that could not be
measured raises NotMeasurable; whoever measures turns that into a status, never into a reward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from pipeline.types import Estimate

Variant = Literal["code", "paper"]

NORMAL_975 = 1.959963984540054  # the normal's 97.5 % quantile
FEW_CLUSTERS = 50  # below this many clusters the interval is Student's


class NotMeasurable(ValueError):
    """The numbers at hand do not allow this measurement."""


# log-probabilities of a reference


def mean_nll(logprobs: Sequence[float]) -> float:
    """Mean negative log-probability per scored token, >= 0, in nats.

    Raises NotMeasurable without tokens and on any log-probability that is positive or not finite.
    """
    return -sequence_logprob(logprobs) / len(logprobs)


def sequence_logprob(logprobs: Sequence[float]) -> float:
    """Log-probability of the whole reference, <= 0. Raises as `mean_nll`."""
    if not logprobs:
        raise NotMeasurable("no scored tokens")
    if math.isfinite(sum(logprobs)) and max(logprobs) <= 0.0:  # NaN spoils the sum, not the largest
        return math.fsum(logprobs)
    for seat, value in enumerate(logprobs):
        if not -math.inf < value <= 0.0:
            raise NotMeasurable(f"log-probability {value} at token {seat} is not finite and <= 0")
    raise NotMeasurable("the log-probabilities sum to -inf")


def mean_probability(logprobs: Sequence[float]) -> float:
    """Mean over tokens of the token's probability, in [0, 1] (RLPR, arXiv 2506.18254).

    Raises as `mean_nll`.
    """
    sequence_logprob(logprobs)
    return math.fsum(map(math.exp, logprobs)) / len(logprobs)


def length_norm(reasoning_tokens: int, variant: Variant) -> float:
    """NOVER's N = max(1, 1 + log n): log10 in the released code, ln in the paper (2505.16022)."""
    if reasoning_tokens <= 1:
        return 1.0
    log = math.log10 if variant == "code" else math.log
    return 1.0 + log(reasoning_tokens)


def log_perplexity(logprobs: Sequence[float], reasoning_tokens: int, variant: Variant) -> float:
    """Log of NOVER's P_r = exp(mean NLL / N(reasoning tokens)), >= 0; lower is better.

    The log ranks as P_r does and never overflows. Raises as `mean_nll`.
    """
    return mean_nll(logprobs) / length_norm(reasoning_tokens, variant)


# agreement of several attempts


def consensus(table: Tensor) -> tuple[int, float, float]:
    """The answer that all reasonings together make most probable.

    table  [R, A]  sequence log-probability of each candidate answer under each reasoning
    ->     (best, confidence, spread): column of the best, the first of equals; its share of the
           candidates' probability, in (0, 1]; entropy of the shares over log A, in [0, 1]

    P(a) is the mean over reasonings of P(a | reasoning): majority vote with the sampling noise of
    the answer integrated out. One candidate has confidence 1 and spread 0.
    """
    if table.dim() != 2 or 0 in table.shape:
        raise NotMeasurable(f"expected a table [R, A] with entries, got shape {tuple(table.shape)}")
    scores = table.detach().to(torch.float64)
    if not bool((torch.isfinite(scores) & (scores <= 0)).all()):
        raise NotMeasurable("a sequence log-probability is positive or not finite")
    candidates = scores.shape[1]
    if candidates == 1:
        return 0, 1.0, 0.0
    log_shares = torch.log_softmax(torch.logsumexp(scores, dim=0), dim=0)
    shares = log_shares.exp()
    best = int(shares.argmax())
    entropy = float(torch.special.entr(shares).sum())
    return best, float(shares[best]), min(max(entropy / math.log(candidates), 0.0), 1.0)


# ranking right above wrong


def pair_accuracy(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Share of one prompt's (right, wrong) pairs whose right one scores higher; a tie is half.

    scores  [G]  higher means better; none may be NaN
    ->           in [0, 1], or None where right or wrong is absent
    """
    return auc(scores, right)


def auc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """The same statistic pooled over prompts: it also pays for telling easy prompts from hard.

    Mann-Whitney by mid-ranks, n log n. None where right or wrong is absent.
    """
    if len(scores) != len(right):
        raise ValueError(f"{len(scores)} scores but {len(right)} labels")
    if any(math.isnan(score) for score in scores):
        raise NotMeasurable("a score is NaN")
    hits = sum(map(bool, right))
    pairs = hits * (len(right) - hits)
    if not pairs:
        return None
    order = sorted(range(len(scores)), key=scores.__getitem__)
    rank_sum, start = 0.0, 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        middle = (start + 1 + end) / 2  # the mean of the 1-based ranks start+1 .. end
        rank_sum += middle * sum(bool(right[seat]) for seat in order[start:end])
        start = end
    return (rank_sum - hits * (hits + 1) / 2) / pairs


# intervals


def clustered(values_by_cluster: Sequence[Sequence[float]]) -> Estimate:
    """Mean over clusters (tasks) of the mean within each, with its 95 % interval.

    The standard error is the clusters' spread alone; below 50 clusters the interval is Student's,
    from 50 on normal. Bounds are not clipped. A cluster without values tells nothing and is left
    out; n counts the others. Where all clusters agree on one share in [0, 1] their spread is 0,
    which is not certainty: the interval is then Wilson's, one trial per cluster.

    Raises NotMeasurable without values, and for a single cluster outside [0, 1].
    """
    means = [_mean(values) for values in values_by_cluster if values]
    if means and len(set(means)) == 1 and 0.0 <= means[0] <= 1.0:
        return wilson(means[0] * len(means), len(means))
    return _interval(means)


def paired(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Estimate:
    """a minus b on the same clusters: mean of the per-cluster differences, with its interval.

    a, b  per cluster, in the same order, the values under either; a pair with an empty side is
          left out. Equal differences have an interval without width.

    Raises NotMeasurable with fewer than two pairs.
    """
    pairs = zip(a, b, strict=True)
    return _interval([_mean(left) - _mean(right) for left, right in pairs if left and right])


def wilson(k: float, n: int) -> Estimate:
    """Wilson's 95 % interval of k successes in n trials; k may be fractional."""
    if n < 1 or not 0 <= k <= n:
        raise NotMeasurable(f"{k} successes in {n} trials")
    share, z2 = k / n, NORMAL_975**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_975 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(share, min(centre - half, share), max(centre + half, share), n)


def _interval(means: Sequence[float]) -> Estimate:
    """Mean of the clusters' means +- quantile * sd / sqrt(Q)."""
    count = len(means)
    if count < 2:
        raise NotMeasurable(f"an interval needs two clusters with values, got {count}")
    value = math.fsum(means) / count
    variance = math.fsum((mean - value) ** 2 for mean in means) / (count - 1)
    quantile = student_975(count - 1) if count < FEW_CLUSTERS else NORMAL_975
    half = quantile * math.sqrt(variance / count)
    return Estimate(value, value - half, value + half, count)


def _mean(values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        raise NotMeasurable("a value is not finite")
    return math.fsum(values) / len(values)


@lru_cache
def student_975(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by bisection on its closed form for whole degrees."""
    low, high = 0.0, 13.0  # one degree of freedom has 12.706
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, freedom) < 0.95 else (low, middle)
    return high


def _central(t: float, freedom: int) -> float:
    """P(|T| <= t): Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for power in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
