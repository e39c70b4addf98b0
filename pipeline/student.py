"""One offline step's gradient, exact however the step is split into micro-batches.

A loss of g = log p - log p0 summed over a completion, or of a pair of them, is no sum over tokens.
So every g is computed first, without gradient; the derivative of the step's loss by each of them
is a number; and the gradient is that of the sum of these numbers times log p, which does split.
Completions are weighed at temperature 1, whatever they were sampled at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.batch import Row, Splice, pack, parted, row_of
from pipeline.config import RunConfig
from pipeline.offline import OBJECTIVES, Offline, Pick
from pipeline.trainee import Trainee
from pipeline.types import Group, Judged, UpdateStats


@dataclass(slots=True)
class _Lesson:
    """What a step reads: rows [R] with their values, and the groups that gave none."""

    rows: list[Row]
    values: list[float]
    dead: int = 0
    unspliced: int = 0

    @property
    def slots(self) -> int:
        """Tokens that carry loss."""
        return sum(len(row.at) + len(row.answer) for row in self.rows)


def gather(
    trainee: Trainee, judged: Sequence[Judged], config: RunConfig, splice: Splice | None
) -> UpdateStats:
    """Add the clipped gradient of a step over these groups to the trainee's, without a step.

    splice  how references are put behind reasoning; needed where the loss is on them
    """
    objective = OBJECTIVES[config.offline.objective]
    lesson = _lesson(objective, judged, config, splice)
    budget = config.learner.token_budget
    if objective.loss is None:
        gaps, slopes, loss = torch.zeros(1), [-1.0 / max(lesson.slots, 1)] * len(lesson.rows), None
    else:
        gaps = _gaps(trainee, lesson.rows, budget)
        loss, slopes = _slopes(objective, gaps, lesson, config)
    total, entropy = _backward(trainee, lesson.rows, slopes, budget)
    told = total if loss is None else loss
    written = sum(len(row.at) for row in lesson.rows)
    return UpdateStats(
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


def _lesson(
    objective: Offline, judged: Sequence[Judged], config: RunConfig, splice: Splice | None
) -> _Lesson:
    """The rows that the objective takes; a group one of whose rows cannot be made gives none."""
    lesson = _Lesson([], [])
    for one in judged:
        picks = objective.take(one, config.offline)
        made = [_row(objective, one.group, pick, splice) for pick in picks]
        rows = [row for row in made if row is not None]
        if not rows or len(rows) < len(made):
            lesson.dead += 1
            lesson.unspliced += (len(made) - len(rows)) * (objective.on == "reference")
            continue
        lesson.rows += rows
        lesson.values += [pick.value for pick in picks]
    return lesson


def _row(objective: Offline, group: Group, pick: Pick, splice: Splice | None) -> Row | None:
    rollout = group.rollouts[pick.seat]
    if objective.on == "completion":
        return row_of(rollout, (), None, (1.0,) * sum(rollout.written))
    if splice is None:
        raise ValueError("an objective on references needs to be told how they are spliced in")
    return row_of(rollout, splice.reference_ids(group.task), splice.behind(rollout), ())


def _gaps(trainee: Trainee, rows: Sequence[Row], budget: int) -> Tensor:
    """log p - log p0 of each row's written tokens, summed, [R] float64 without gradient."""
    gaps = torch.zeros(len(rows), dtype=torch.float64)
    for part in parted(rows, budget):
        batch = pack([rows[i] for i in part]).on(trainee.model.device, trainee.dtype)
        with torch.no_grad():
            now = trainee.score(batch, 1.0)[0]
        apart = (now - trainee.score_start(batch, 1.0)).double()
        gaps[part] = apart.new_zeros(batch.rows).index_add(0, batch.owner, apart).cpu()
    return gaps


def _slopes(
    objective: Offline, gaps: Tensor, lesson: _Lesson, config: RunConfig
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
    trainee: Trainee, rows: Sequence[Row], slopes: Sequence[float], budget: int
) -> tuple[float, float]:
    """Add the gradient of sum of slope * log p; that sum, and the entropies' over written tokens.

    Each slope travels as its row's advantage, and as the weight of its branch.
    """
    weighed = [
        replace(row, advantages=(slope,) * len(row.at), weight=slope)
        for row, slope in zip(rows, slopes, strict=True)
    ]
    total = entropy = 0.0
    for part in parted(weighed, budget):
        batch = pack([weighed[i] for i in part]).on(trainee.model.device, trainee.dtype)
        logprobs, entropies = trainee.score(batch, 1.0)
        slots = batch.policy_slots
        summed = (logprobs[:slots] * batch.advantages).sum()
        summed = summed + (logprobs[slots:] * batch.weights).sum()
        trainee.backward(summed)
        total += float(summed.detach())
        entropy += float(entropies.sum())
    return total, entropy
