"""One optimiser step: attempt, agree, measure, judge, credit, learn, and sync where it is due.

The one place where evidence meets rewards. It returns a StepRecord and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.advantages import credit
from pipeline.answers import matches
from pipeline.config import RunConfig
from pipeline.measures import mean_nll, paired
from pipeline.ports import Consensus, Generator, Learner, Proxy, Solver, Verifier
from pipeline.rewards import judge
from pipeline.rewards.frontier import judge_proposals
from pipeline.seeds import seed_of
from pipeline.types import (
    Credited,
    Evidence,
    Group,
    PoolFigure,
    ProposalEvidence,
    StepRecord,
    SyncRecord,
    Task,
)


@dataclass(frozen=True, slots=True)
class Crew:
    """The parts a round works with, each behind its port. None of them knows any truth.

    pool  measures the present proxy on the frozen pool, None without one; it decides syncs alone
    """

    config: RunConfig
    generator: Generator | None
    solver: Solver
    verifier: Verifier
    learner: Learner
    proxy: Proxy
    pool: Callable[[], PoolFigure | None]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What a step will attempt: seed tasks, and the proposals of its generator groups."""

    round: int
    step: int
    seeds: tuple[Task, ...]
    groups: tuple[Group, ...]
    candidates: tuple[tuple[Task | None, ...], ...]
    evidence: tuple[tuple[ProposalEvidence, ...], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A proposal after its attempts: the task with its reference, and what became of it."""

    task: Task
    evidence: ProposalEvidence
    credited: Credited


def take_step(crew: Crew, plan: StepPlan) -> StepRecord:
    """Attempt the plan's tasks, learn from them once, and tell everything about it."""
    clock = Clock()
    chosen = _choose(crew.config, plan)
    tasks = (*plan.seeds[: crew.config.solver.tasks - len(chosen)], *chosen)
    groups = _attempt(crew, plan, tasks)
    clock.lap("attempt")
    given, proposed = groups[: len(tasks) - len(chosen)], groups[len(tasks) - len(chosen) :]
    proposed = _refer(crew, proposed)
    measured = crew.verifier.measure([g for g in (*given, *proposed) if g.task.reference])
    clock.lap("measure")
    evidence = iter(measured)
    credited = [_credit(crew, group, next(evidence)) for group in given]
    outcomes = [
        _outcome(crew, group, next(evidence) if group.task.reference else ()) for group in proposed
    ]
    credited += [outcome.credited for outcome in outcomes]
    credited += _credit_proposals(crew, plan, outcomes)
    updates = crew.learner.step(credited, step=plan.step)
    crew.learner.publish()
    clock.lap("learn")
    syncs = sync_if_due(crew, plan.round, plan.step)
    clock.lap("sync")
    return StepRecord(
        round=plan.round,
        step=plan.step,
        credited=tuple(credited),
        tasks=tuple(o.task for o in outcomes if o.task.reference),
        updates=updates,
        versions=tuple(crew.learner.versions()[line] for line in sorted(updates)),
        syncs=syncs,
        seconds=clock.seconds,
    )


def replay_step(crew: Crew, record: StepRecord) -> StepRecord:
    """Take a stored step again from its rollouts, sampling and scoring nothing.

    Returns what the learner says now; on a CPU it equals what is stored.
    """
    updates = crew.learner.step(record.credited, step=record.step)
    crew.learner.publish()
    for sync in record.syncs:
        if sync.accepted:
            crew.proxy.sync(step=sync.step, alpha=sync.alpha)
    return replace(
        record, updates=updates, versions=tuple(crew.learner.versions()[x] for x in sorted(updates))
    )


def sync_if_due(
    crew: Crew, round: int, step: int, *, round_end: bool = False
) -> tuple[SyncRecord, ...]:
    """Move the proxy toward the policy where the rule says so; measured before and after.

    Under `gated`, a sync that lowers the pool's figure beyond noise (the paired interval lies
    below 0) is undone.
    """
    rule = crew.config.sync
    due = (
        round_end
        if rule.rule == "round"
        else rule.rule != "never" and step % rule.every == 0 and not round_end
    )
    if not due:
        return ()
    before, old = crew.pool(), crew.proxy.version.id
    alpha = rule.alpha if rule.rule == "ema" else 0.0
    source = crew.learner.versions()["solver"].id
    new = crew.proxy.sync(step=step, alpha=alpha).id
    after = crew.pool()
    refused, reason = _verdict(before, after, rule.gated)
    if refused:
        crew.proxy.undo()
    record = SyncRecord(
        round=round,
        step=step,
        rule=rule.rule,
        source=source,
        before=old,
        after=old if refused else new,
        alpha=alpha,
        probe_before=before.estimate if before else None,
        probe_after=after.estimate if after else None,
        accepted=not refused,
        reason=reason,
    )
    return (record,)


def _verdict(before: PoolFigure | None, after: PoolFigure | None, gated: bool) -> tuple[bool, str]:
    """Whether to refuse a sync, and why; a sync that nothing can measure is never refused.

    The change is paired over the tasks that could be measured both before and after.
    """
    if before is None or after is None:
        return False, "no pool to measure it on"
    old, new = dict(before.per_task), dict(after.per_task)
    both = [task for task in old if task in new]
    if len(both) < 2:
        return False, f"tasks of the pool measured both before and after: {len(both)}, too few"
    change = paired([[new[task]] for task in both], [[old[task]] for task in both])
    words = (
        f"the pool's figure changed by {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
    )
    refused = gated and change.high < 0.0
    return refused, f"{words}: beyond noise, undone" if refused else words


class Clock:
    """Seconds per part of a step, monotonic; never part of a digest."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._last
        self._last = now


def _choose(config: RunConfig, plan: StepPlan) -> tuple[Task, ...]:
    """The proposals to attempt: one of each group in turn, up to their share of the step."""
    most = int(config.solver.tasks * config.solver.proposed_share)
    deepest = max((len(row) for row in plan.candidates), default=0)
    in_turn = [row[i] for i in range(deepest) for row in plan.candidates if i < len(row)]
    return tuple(task for task in in_turn if task is not None)[:most]


def _attempt(crew: Crew, plan: StepPlan, tasks: Sequence[Task]) -> list[Group]:
    size, run_seed = crew.config.solver.group_size, crew.config.seed
    seeds = [
        [seed_of(run_seed, plan.step, "attempt", n, g) for g in range(size)]
        for n in range(len(tasks))
    ]
    ids = [f"r{plan.round:02d}-s{plan.step:04d}-n{n:02d}" for n in range(len(tasks))]
    return crew.solver.attempt(tasks, seeds, ids)


def _refer(crew: Crew, groups: Sequence[Group]) -> list[Group]:
    """Give each proposal without a reference its attempts' consensus; "" where there is none."""
    waiting = [group for group in groups if not group.task.reference]
    found: dict[str, Consensus] = dict(
        zip((g.id for g in waiting), crew.verifier.agree(waiting), strict=True)
    )
    return [_with_reference(group, found.get(group.id)) for group in groups]


def _with_reference(group: Group, consensus: Consensus | None) -> Group:
    if consensus is None or not consensus.answer:
        return group
    task = replace(group.task, reference=consensus.answer, confidence=consensus.confidence)
    return replace(group, task=task)


def _credit(crew: Crew, group: Group, evidence: tuple[Evidence, ...]) -> Credited:
    judged = judge(group, evidence, crew.config.reward, crew.config.verifier.variant)
    return credit(judged, crew.config.objective)


def _outcome(crew: Crew, group: Group, evidence: tuple[Evidence, ...]) -> Outcome:
    """What became of an attempted proposal; below the bar it teaches the solver nothing."""
    task, floor = group.task, crew.config.verifier.consensus_floor
    if not evidence:
        unmeasured = tuple(Evidence("not_measured", crew.verifier.version) for _ in group.rollouts)
        empty = _credit(crew, group, unmeasured)
        return Outcome(
            task, ProposalEvidence("no_reference", len(group.rollouts), task_id=task.id), empty
        )
    credited = _credit(crew, group, evidence)
    trusted = task.origin != "consensus" or task.confidence >= floor
    if not trusted:
        still = (0.0,) * len(credited.advantages)
        credited = replace(credited, advantages=still, answer_weights=still)
    return Outcome(
        task,
        ProposalEvidence(
            drop="admitted" if trusted else "low_confidence",
            attempts=len(group.rollouts),
            beats=_beats(evidence),
            agreement=sum(matches(t.final, task.reference) for t in group.transcripts)
            / len(group.rollouts),
            confidence=task.confidence,
            task_id=task.id,
        ),
        credited,
    )


def _beats(evidence: Sequence[Evidence]) -> float | None:
    """Share of attempts whose reasoning makes the reference likelier than no reasoning does.

    Malformed attempts count as failures; None where nothing was measured.
    """
    told = [e for e in evidence if e.status in ("measured", "malformed")]
    if not any(e.status == "measured" for e in told):
        return None
    wins = [
        e.status == "measured" and mean_nll(e.reference_logprobs) < mean_nll(e.baseline_logprobs)
        for e in told
    ]
    return sum(wins) / len(wins)


def _credit_proposals(crew: Crew, plan: StepPlan, outcomes: Sequence[Outcome]) -> list[Credited]:
    """The generator's groups, paid by what the solver made of each proposal."""
    made = {outcome.task.id: outcome.evidence for outcome in outcomes}
    credited = []
    for group, row in zip(plan.groups, plan.evidence, strict=True):
        evidence = [_after(item, made.get(item.task_id or "")) for item in row]
        judged = judge_proposals(group, evidence, crew.config.generator)
        credited.append(credit(judged, crew.config.objective))
    return credited


def _after(before: ProposalEvidence, outcome: ProposalEvidence | None) -> ProposalEvidence:
    if before.drop != "admitted":
        return before
    if outcome is None:
        return replace(before, drop="not_attempted")
    return replace(outcome, similarity=before.similarity)
