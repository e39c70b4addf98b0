"""One optimiser step: attempt, agree, measure, judge, credit, learn, and sync where it is due.

The one place where evidence meets rewards. It returns a StepRecord and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.advantages import credit, indistinct, nothing
from pipeline.config import RunConfig
from pipeline.crew import Crew
from pipeline.curriculum import trusted
from pipeline.measures import mean_nll
from pipeline.ports import Consensus
from pipeline.rewards import judge
from pipeline.rewards.frontier import judge_proposals
from pipeline.seeds import seed_of
from pipeline.syncing import sync_if_due
from pipeline.text.answers import matches
from pipeline.types import (
    Credited,
    Evidence,
    Group,
    Judged,
    ProposalEvidence,
    StepRecord,
    Studied,
    Task,
)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What a step will attempt: seed tasks, and the proposals of its generator groups."""

    round: int
    step: int
    seeds: tuple[Task, ...]
    groups: tuple[Group, ...]
    candidates: tuple[tuple[Task | None, ...], ...]
    evidence: tuple[tuple[ProposalEvidence, ...], ...]
    spares: tuple[Task, ...] = ()  # seed tasks for groups that taught nothing


@dataclass(frozen=True, slots=True)
class Outcome:
    """A proposal after its attempts, and what became of it."""

    judged: Judged
    evidence: ProposalEvidence

    @property
    def task(self) -> Task:
        """The task with its reference."""
        return self.judged.group.task


def take_step(crew: Crew, plan: StepPlan) -> StepRecord:
    """Attempt the plan's tasks, learn from them once, and tell everything about it."""
    clock = Clock()
    chosen = _choose(crew.config, plan)
    seeds = plan.seeds[: crew.config.solver.tasks - len(chosen)]
    groups = _attempt(crew, plan, (*seeds, *chosen))
    clock.lap("attempt")
    proposed = _refer(crew, groups[len(seeds) :])
    judged = _judge(crew, plan, [*groups[: len(seeds)], *proposed])
    outcomes = [_outcome(crew, one) for one in judged[len(seeds) :]]
    fresh = resample(crew, plan, judged[: len(seeds)])
    credited = _credit_attempts(crew, plan, [*judged[: len(seeds)], *fresh], outcomes)
    credited += _credit_proposals(crew, plan, outcomes)
    clock.lap("measure")
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
        resampled=len(fresh),
    )


def replay_step(crew: Crew, record: StepRecord) -> StepRecord:
    """Take a stored step again from its rollouts, sampling and scoring nothing.

    Returns what the learner says now; on a CPU it equals what is stored.
    """
    if record.studied:
        judged = judge_again(crew.config, record.studied, record.step)
        updates = crew.learner.study(judged, step=record.step)
    else:
        updates = crew.learner.step(record.credited, step=record.step)
    crew.learner.publish()
    for sync in record.syncs:
        if sync.accepted:
            crew.proxy.sync(step=sync.step, alpha=sync.alpha)
    return replace(
        record, updates=updates, versions=tuple(crew.learner.versions()[x] for x in sorted(updates))
    )


def judge_again(config: RunConfig, studied: Sequence[Studied], step: int) -> list[Judged]:
    """Stored groups with the rewards that this run's configuration makes of their evidence.

    Raises NotMeasurable where the reward reads a meter that the stored evidence does not hold.
    """
    reward = config.reward_at(step)
    return [
        judge(
            one.judged.group,
            [item for item in one.judged.evidence if isinstance(item, Evidence)],
            reward,
        )
        for one in studied
    ]


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


def _attempt(
    crew: Crew, plan: StepPlan, tasks: Sequence[Task], stream: str = "attempt", first: int = 0
) -> list[Group]:
    """Attempt tasks with the random streams of that name, counted from `first`."""
    size, run_seed = crew.config.solver.group_size, crew.config.seed
    numbers = range(first, first + len(tasks))
    seeds = [[seed_of(run_seed, plan.step, stream, n, g) for g in range(size)] for n in numbers]
    mark = "n" if stream == "attempt" else "x"
    ids = [f"r{plan.round:02d}-s{plan.step:04d}-{mark}{n:02d}" for n in numbers]
    return crew.solver.attempt(tasks, seeds, ids)


def resample(crew: Crew, plan: StepPlan, judged: Sequence[Judged]) -> list[Judged]:
    """Fresh seed tasks attempted in place of groups that compare nothing (DAPO's dynamic sampling,
    arXiv 2503.14476), while turns last; those stay in the record and the cost.

    A turn replaces what the one before it left without a comparison. Which tasks come, and every
    stream, follow from the plan and from how many came before.
    """
    fresh: list[Judged] = []
    missing = sum(_compares_nothing(crew, one) for one in judged)
    for _ in range(crew.config.objective.resample):
        if not missing:
            break
        tasks = plan.spares[len(fresh) : len(fresh) + missing]
        turn = _judge(crew, plan, _attempt(crew, plan, tasks, "spare", len(fresh)))
        missing = sum(_compares_nothing(crew, one) for one in turn)
        fresh += turn
    return fresh


def _compares_nothing(crew: Crew, judged: Judged) -> bool:
    """Whether all rewards of the group are equal, or too near to each other to be compared."""
    return len(set(judged.rewards)) < 2 or indistinct(judged, crew.config.objective)


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


def _judge(crew: Crew, plan: StepPlan, groups: Sequence[Group]) -> list[Judged]:
    """Measure and judge attempts; a group without a reference is judged for nobody."""
    measured = iter(crew.verifier.measure([g for g in groups if g.task.reference]))
    unmeasured = Evidence("not_measured", crew.verifier.version)
    reward = crew.config.reward_at(plan.step)
    return [
        judge(
            group,
            next(measured) if group.task.reference else (unmeasured,) * len(group.rollouts),
            reward,
        )
        for group in groups
    ]


def _outcome(crew: Crew, judged: Judged) -> Outcome:
    """What became of an attempted proposal; below the bar it teaches the solver nothing."""
    group, task, floor = judged.group, judged.group.task, crew.config.verifier.consensus_floor
    if not task.reference:
        attempts = len(group.rollouts)
        return Outcome(judged, ProposalEvidence("no_reference", attempts, task_id=task.id))
    sure = trusted(task, floor)
    return Outcome(
        judged,
        ProposalEvidence(
            drop="admitted" if sure else "low_confidence",
            attempts=len(group.rollouts),
            beats=_beats([e for e in judged.evidence if isinstance(e, Evidence)]),
            agreement=sum(matches(t.final, task.reference) for t in group.transcripts)
            / len(group.rollouts),
            confidence=task.confidence,
            task_id=task.id,
        ),
    )


def _credit_attempts(
    crew: Crew, plan: StepPlan, seeds: Sequence[Judged], outcomes: Sequence[Outcome]
) -> list[Credited]:
    """Seed groups and proposals compared together; what is not admitted is credited with 0.

    Attempts without chance come last, where the advantage asks for them. A group whose own could
    not be judged has nothing to compare with, and is credited with 0 too.
    """
    taught = [*seeds, *(o.judged for o in outcomes if o.evidence.drop == "admitted")]
    greedy = _greedy(crew, plan, taught)
    rewards = {one.group.task.id: one.rewards[0] for one in greedy if one.rewards}
    if greedy:
        taught = [one for one in taught if one.group.task.id in rewards]
    found = {c.judged.group.id: c for c in credit(taught, crew.config.objective, rewards)}
    inorder = [*seeds, *(o.judged for o in outcomes)]
    told = [found.get(one.group.id) or nothing(one) for one in inorder]
    return [*told, *map(nothing, greedy)]


def _greedy(crew: Crew, plan: StepPlan, taught: Sequence[Judged]) -> list[Judged]:
    """One attempt without chance at each task, judged alone, where the advantage compares with it
    (ReMax, arXiv 2310.10505)."""
    if crew.config.objective.advantage != "remax":
        return []
    tasks = list({one.group.task.id: one.group.task for one in taught}.values())
    ids = [f"r{plan.round:02d}-s{plan.step:04d}-z{n:02d}" for n in range(len(tasks))]
    return _judge(crew, plan, crew.solver.attempt(tasks, [[0]] * len(tasks), ids, greedy=True))


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
    judged = []
    for group, row in zip(plan.groups, plan.evidence, strict=True):
        evidence = [_after(item, made.get(item.task_id or "")) for item in row]
        judged.append(judge_proposals(group, evidence, crew.config.generator))
    return credit(judged, crew.config.objective)


def _after(before: ProposalEvidence, outcome: ProposalEvidence | None) -> ProposalEvidence:
    if before.drop != "admitted":
        return before
    if outcome is None:
        return replace(before, drop="not_attempted")
    return replace(outcome, similarity=before.similarity)
