"""One offline step's gradient, exact however the step is split into micro-batches.

A loss of g = log p - log p0 summed over a completion, or of a pair of them, is no sum over tokens.
So every g is computed first, without gradient; the derivative of the step's loss by each of them
is a number; and the gradient is that of the sum of these numbers times log p, which does split.
Completions are weighed at temperature 1, whatever they were sampled at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.batch import MicroBatch, Row, pack
from pipeline.config import RunConfig
from pipeline.learning.gradient import finite
from pipeline.learning.order import Lesson
from pipeline.learning.trainee import Trainee
from pipeline.offline import OBJECTIVES, Offline
from pipeline.types import UpdateStats


def gather_lesson(trainee: Trainee, lesson: Lesson, config: RunConfig) -> UpdateStats:
    """Gather the clipped gradient of an offline step, without a step.

    Raises NonFinite, in every process alike, when the loss or a gradient is not finite.
    """
    objective = OBJECTIVES[config.offline.objective]
    if objective.loss is None:
        gaps, slopes, loss = torch.zeros(1), [-1.0 / max(lesson.slots, 1)] * len(lesson.rows), None
    else:
        gaps = _gaps(trainee, lesson.rows)
        loss, slopes = _slopes(objective, gaps, lesson, config)
    total, entropy = _backward(trainee, lesson.rows, slopes)
    told = total if loss is None else loss
    written = sum(len(row.at) for row in lesson.rows)
    stats = UpdateStats(
        loss=told,
        policy_loss=told if objective.on == "completion" else 0.0,
        answer_loss=told if objective.on == "reference" else 0.0,
        kl=float(gaps.mean()) if len(gaps) else 0.0,
        grad_norm=trainee.clip() if lesson.rows else 0.0,
        clipped=0.0,
        entropy=entropy / max(written, 1),
        mismatch=0.0,
        tokens=lesson.slots,
        rows=len(lesson.rows),
        dead_groups=lesson.dead,
        unspliced=lesson.unspliced,
    )
    return finite(trainee, stats)


def _gaps(trainee: Trainee, rows: Sequence[Row]) -> Tensor:
    """log p - log p0 of each row's written tokens, summed, [R] float64 without gradient."""
    gaps = torch.zeros(len(rows), dtype=torch.float64, device=trainee.team.device)
    own, idle = trainee.share(rows)
    for part in own:
        batch = _packed(trainee, rows, part)
        with torch.no_grad():
            now = trainee.held.score(batch, 1.0)[0]
        apart = (now - trainee.held.score_start(batch, 1.0)).double()
        gaps[part] = apart.new_zeros(batch.rows).index_add(0, batch.owner, apart)
    for _ in range(idle):
        trainee.held.idle(start=True, learn=False)
    trainee.team.add([gaps])  # each row is one process's, and 0 elsewhere
    return gaps.cpu()


def _slopes(
    objective: Offline, gaps: Tensor, lesson: Lesson, config: RunConfig
) -> tuple[float, list[float]]:
    """The step's loss, and its derivative by each row's log-probability."""
    if objective.loss is None or not lesson.rows:
        return 0.0, []
    leaf = gaps.clone().requires_grad_()
    values = torch.tensor(lesson.values, dtype=torch.float64)
    loss = objective.loss(leaf, values, config.offline)
    [slopes] = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), slopes.tolist()


def _backward(
    trainee: Trainee, rows: Sequence[Row], slopes: Sequence[float]
) -> tuple[float, float]:
    """Add the gradient of sum of slope * log p; that sum, and the entropies' over written tokens.

    Each slope travels as its row's advantage, and as the weight of its branch.
    """
    weighed = [
        replace(row, advantages=(slope,) * len(row.at), weight=slope)
        for row, slope in zip(rows, slopes, strict=True)
    ]
    sums = torch.zeros(2, dtype=torch.float64, device=trainee.team.device)
    own, idle = trainee.share(weighed)
    for part in own:
        batch = _packed(trainee, weighed, part)
        logprobs, entropies = trainee.held.score(batch, 1.0)
        slots = batch.policy_slots
        summed = (logprobs[:slots] * batch.advantages).sum()
        summed = summed + (logprobs[slots:] * batch.weights).sum()
        trainee.held.backward(summed)
        sums += torch.stack([summed.detach(), entropies.sum()])
    for _ in range(idle):
        trainee.held.idle(start=False, learn=True)
    trainee.team.add([sums])
    total, entropy = sums.tolist()
    return total, entropy


def _packed(trainee: Trainee, rows: Sequence[Row], part: Sequence[int]) -> MicroBatch:
    return pack([rows[index] for index in part]).on(trainee.team.device, trainee.held.dtype)
