"""The verifier's probe: does it rank right reasoning above wrong, on a pool that never changes.

What ranks is the reference's mean log-probability, without NOVER's length norm: right reasoning
tends to be the longer one, and the probe shall not pay the verifier for length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.evaluation.exam import Exam, PoolGroup, ProbeItem, record
from pipeline.measures import auc, clustered, mean_nll, pair_accuracy
from pipeline.ports import Solver, Verifier
from pipeline.seeds import seed_of
from pipeline.types import Evidence, Group, PoolFigure, ProbeRecord

POOL_SAMPLES = 16  # attempts from which a pool task's rollouts are taken
POOL_EACH = 2  # most right and most wrong rollouts of a pool task


def make_pool(exam: Exam, solver: Solver) -> list[PoolGroup]:
    """Sample the pool once, from the starting weights: a few right and wrong rollouts a task.

    Malformed rollouts and repeated reasonings are left out, and so is a task without both kinds.
    Where nothing can tell right reasoning, the rollouts stay unlabelled.
    """
    items, seed = exam.pool_items, exam.config.seed
    seeds = [[seed_of(seed, "pool", item.id, g) for g in range(POOL_SAMPLES)] for item in items]
    names = [f"pool-{item.id}" for item in items]
    groups = solver.attempt([item.bare() for item in items], seeds, names)
    pool = []
    for item, group in zip(items, groups, strict=True):
        task = replace(group.task, reference=item.reference)
        told = {
            i: exam.truth.reasoned_right(item, group.transcripts[i].first) for i in _distinct(group)
        }
        kept = [
            i
            for label in (True, False, None)
            for i in [k for k, v in told.items() if v is label][:POOL_EACH]
        ]
        labels = tuple(told[i] for i in kept)
        if (True in labels and False in labels) or (labels and None in labels):
            pool.append(PoolGroup(item, _subset(replace(group, task=task), kept), labels))
    return pool


def pool_figure(pool: Sequence[PoolGroup], verifier: Verifier) -> PoolFigure | None:
    """Pair accuracy of the present proxy on the labelled tasks of the pool.

    Where no task is labelled: how often the own reference beats another task's. None without a
    pool, or where nothing of it can be measured. Labels alone say which, so that two figures of
    one pool are of one kind.
    """
    labelled = any(None not in entry.right for entry in pool)
    values = (pair_values if labelled else matched_values)(pool, verifier)
    if not values:
        return None
    return PoolFigure(clustered([[v] for v in values.values()]), tuple(values.items()))


def named_part(pool: Sequence[PoolGroup], named: Sequence[str]) -> list[PoolGroup]:
    """The pool's tasks of the named families; the whole pool where none is named."""
    return [p for p in pool if p.item.family in named] or list(pool)


def verifier_probe(exam: Exam, pool: Sequence[PoolGroup], verifier: Verifier) -> list[ProbeRecord]:
    """pair_accuracy for all, the named families and each family; matched_auc for all."""
    values = pair_values(pool, verifier)
    families = {p.item.id: p.item.family for p in pool}
    parts = [("all", set(families.values())), ("named", set(exam.truth.named))]
    parts += [(f"family={f}", {f}) for f in sorted(set(families.values())) if f]
    records = []
    for where, inside in parts:
        part = {key: [value] for key, value in values.items() if families[key] in inside}
        if len(part) > 1:
            records.append(record("verifier", "pair_accuracy", where, part, verifier.version))
    matched = {key: [value] for key, value in matched_values(pool, verifier).items()}
    if len(matched) > 1:
        records.append(record("verifier", "matched_auc", "all", matched, verifier.version))
    return records


def pair_values(pool: Sequence[PoolGroup], verifier: Verifier) -> dict[str, float]:
    """Per labelled task: the share of its (right, wrong) pairs that perplexity ranks right."""
    labelled = [p for p in pool if None not in p.right]
    values = {}
    for entry, evidence in zip(
        labelled, verifier.measure([p.group for p in labelled]), strict=True
    ):
        told = [
            (_score(e), bool(r))
            for e, r in zip(evidence, entry.right, strict=True)
            if e.status == "measured"
        ]
        value = pair_accuracy([score for score, _ in told], [right for _, right in told])
        if value is not None:
            values[entry.item.id] = value
    return values


def matched_values(pool: Sequence[PoolGroup], verifier: Verifier) -> dict[str, float]:
    """Per task: how often its own reference is likelier than the next task's, given its reasoning.

    Needs no label. The likelihoods are means per token, so that lengths compare.
    """
    if len(pool) < 2:
        return {}
    others = [_other_reference(pool, i) for i in range(len(pool))]
    crossed = [
        replace(p.group, task=replace(p.group.task, reference=o))
        for p, o in zip(pool, others, strict=True)
    ]
    own, other = verifier.measure([p.group for p in pool]), verifier.measure(crossed)
    values = {}
    for entry, a, b in zip(pool, own, other, strict=True):
        both = [
            (_score(x), _score(y))
            for x, y in zip(a, b, strict=True)
            if x.status == y.status == "measured"
        ]
        value = auc(
            [x for x, _ in both] + [y for _, y in both], [True] * len(both) + [False] * len(both)
        )
        if value is not None:
            values[entry.item.id] = value
    return values


def _score(evidence: Evidence) -> float:
    """Mean log-probability of the reference's tokens; higher is better."""
    return -mean_nll(evidence.reference_logprobs)


def _other_reference(pool: Sequence[PoolGroup], i: int) -> str:
    """The reference of the next task of the same family that says something else."""
    own: ProbeItem = pool[i].item
    order = [*pool[i + 1 :], *pool[:i]]
    differing = [p.item for p in order if p.item.reference != own.reference]
    return next(
        (x.reference for x in differing if x.family == own.family),
        differing[0].reference if differing else "none",
    )


def _distinct(group: Group) -> list[int]:
    """Indices of well-formed rollouts, the first of each reasoning."""
    first: dict[str, int] = {}
    for i, transcript in enumerate(group.transcripts):
        if transcript.form == "ok":
            first.setdefault(transcript.first, i)
    return list(first.values())


def _subset(group: Group, kept: Sequence[int]) -> Group:
    rollouts = tuple(group.rollouts[i] for i in kept)
    return replace(group, rollouts=rollouts, transcripts=tuple(group.transcripts[i] for i in kept))
