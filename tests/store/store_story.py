"""A small run, told deterministically: the nouns a flow would hand to the store."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.types import (
    Credited,
    Estimate,
    Evidence,
    Group,
    Judged,
    ProbeRecord,
    ProposalEvidence,
    Proposed,
    Role,
    Rollout,
    StepRecord,
    SyncRecord,
    Task,
    Transcript,
    UpdateStats,
    Version,
)
from store.database import Lease, Store
from store.leases import acquire_lease, release_lease
from store.ledger import (
    NewRun,
    PoolItem,
    Truth,
    close_stage,
    create_run,
    finish,
    record_pool,
    record_probes,
    record_proposed,
    record_seed_tasks,
    record_step,
    record_sync,
    record_truth,
)
from store.points import Point, record_checkpoint

STEPS = 2  # per round
ODD_TEXT = "<think>NUL \x00, lone \ud800, e\u0301, \u202eleft\x1b[31m</think>"
SEEDS = tuple(
    Task(f"seed-{n}", f"What is {n} plus one?", str(n + 1), "rule", round=0) for n in range(4)
)


def rollout(name: str, version: str, size: int = 6) -> Rollout:
    rng = random.Random(name)
    return Rollout(
        id=name,
        tokens=tuple(rng.randrange(2**31) for _ in range(size)),
        written=tuple(n >= 2 for n in range(size)),
        logprobs=tuple(0.0 if n < 2 else -rng.random() for n in range(size)),
        completion=ODD_TEXT if name.endswith("g1") else f"<think>{name}</think> ok",
        stop="end",
        seed=rng.randrange(2**64),
        version=version,
    )


def group(name: str, role: Role, task: Task, version: str, size: int = 2) -> Group:
    return Group(
        id=name,
        role=role,
        task=task,
        rollouts=tuple(rollout(f"{name}-g{g}", version) for g in range(size)),
        transcripts=tuple(
            Transcript("ok", ODD_TEXT, str(g)) if g else Transcript("unclosed") for g in range(size)
        ),
    )


def proposed(round: int) -> Proposed:
    """One proposal a step: the first of its group is dropped, the second becomes a candidate."""
    groups, candidates, evidence = [], [], []
    for index in range(STEPS):
        name = f"r{round:02d}-p{index:03d}"
        made = group(name, "generator", SEEDS[index], f"solver@{(round - 1) * STEPS}")
        task = Task(
            id=f"{name}-g1",
            question=f"A harder one, {name}\x00?",
            reference="",
            origin="consensus",
            round=round,
            parent_id=SEEDS[index].id,
            proposal_id=f"{name}-g1",
        )
        groups.append(made)
        candidates.append((None, task))
        evidence.append(
            (ProposalEvidence("malformed"), ProposalEvidence("admitted", task_id=task.id))
        )
    return Proposed(round, tuple(groups), tuple(candidates), tuple(evidence))


def step(round: int, index: int) -> StepRecord:
    """Step `index` of the round: two seeds and a proposal attempted, the generator paid."""
    number = (round - 1) * STEPS + index + 1
    policy = f"solver@{number - 1}"
    plan = proposed(round)
    candidate = plan.candidates[index][1]
    assert candidate is not None
    task = replace(candidate, reference="forty\ud800-two", confidence=0.75)
    head = f"r{round:02d}-s{number:04d}"
    attempted = [SEEDS[index], SEEDS[index + 1], task]
    groups = [group(f"{head}-n{n}", "solver", t, policy) for n, t in enumerate(attempted)]
    credited = [solver_credit(one, f"proxy@{(round - 1) * STEPS}") for one in groups]
    credited.append(generator_credit(plan.groups[index], task.id))
    syncs = ()
    if index + 1 == STEPS:
        syncs = (sync(round, number),)
    return StepRecord(
        round=round,
        step=number,
        credited=tuple(credited),
        tasks=(task,),
        updates={"solver": update(number)},
        versions=(Version(f"solver@{number}", "solver", number, (policy,)),),
        syncs=syncs,
        seconds={"attempt": 0.25, "learn": 1.5},
    )


def solver_credit(one: Group, verifier: str) -> Credited:
    rng = random.Random(one.id)
    measured = Evidence(
        "measured", verifier, (-rng.random(), -0.5), (-1.0, -rng.random()), reasoning_tokens=3
    )
    evidence = (Evidence("malformed", verifier, detail="unclosed \x00"), measured)
    judged = Judged(one, evidence, (1,), (rng.random(),), {"form": (1.0,), "rank": (0.1,)})
    return Credited(judged, (rng.random() - 0.5,), (0.3,))


def generator_credit(one: Group, task: str) -> Credited:
    evidence = (
        ProposalEvidence("malformed"),
        ProposalEvidence("admitted", 2, None, 0.5, 1.0, 0.75, 0.1, task),
    )
    judged = Judged(one, evidence, (1, 0), (1.0, 0.0), {"frontier": (1.0, 0.0)})
    return Credited(judged, (0.5, -0.5), (0.0, 0.0))


def update(number: int) -> UpdateStats:
    share = 1.0 / (number + 2)
    return UpdateStats(share, 0.1, 0.2, 0.0, 0.9, 0.01, 2.0, 1e-7, 40, 8, 0, 0)


def sync(round: int, number: int) -> SyncRecord:
    before, after = Estimate(0.5, 0.4, 0.6, 12), Estimate(0.625, 0.5, 0.7, 12)
    old = f"proxy@{number - STEPS}"
    return SyncRecord(
        round, number, "steps", f"solver@{number}", old, f"proxy@{number}", 0.0, before, after,
        True, "up",
    )  # fmt: skip


def probes(round: int) -> list[ProbeRecord]:
    def one(axis: str, name: str, slice: str, version: str, value: float) -> ProbeRecord:
        return ProbeRecord(
            axis,
            name,
            slice,
            Estimate(value, value - 0.1, value + 0.1, 9),
            version,
            (("t1", value),),
        )  # type: ignore[arg-type]

    policy, proxy = f"solver@{round * STEPS}", f"proxy@{round * STEPS}"
    return [
        one("solver", "accuracy", "all", policy, 0.5),
        one("solver", "accuracy", "depth>=3", policy, 0.3 + 0.1 * round),
        one("verifier", "pair_accuracy", "all", proxy, 0.8),
        one("verifier", "pair_accuracy", "named", proxy, 0.7 + 0.05 * round),
        one("generator", "frontier_share", "all", policy, 0.2),
    ]


def versions(round: int) -> tuple[Version, ...]:
    number = round * STEPS
    return (
        Version(f"solver@{number}", "solver", number, (), "5" * 64),
        Version(f"proxy@{number}", "proxy", number, (), "a" * 64),
    )


POOL = [PoolItem("pool-0", "Q", "A", "because", True), PoolItem("pool-1", "Q", "A", "no", False)]


@dataclass
class Writer:
    """Writes a run as the flow would; every call it makes is listed in order in `acts`."""

    store: Store
    lease: Lease
    step: Callable[[int, int], StepRecord] = step

    def acts(self, rounds: Sequence[int]) -> list[Callable[[], object]]:
        found: list[Callable[[], object]] = []
        for round in rounds:
            found += self._start() if round == 0 else self._climb(round)
            point = Point(self.lease.run, round, f"round-{round:03d}", "f" * 64, versions(round))
            found.append(lambda point=point: record_checkpoint(self.store, self.lease, point))
            found.append(self._close(round, "checkpoint"))
            found.append(lambda r=round: record_probes(self.store, self.lease, r, probes(r)))
            told = [Truth("task", "seed-0", True, "rule")] if round == 0 else []
            found.append(lambda r=round, t=told: record_truth(self.store, self.lease, r, t))
            found.append(self._close(round, "probe"))
        return found

    def _start(self) -> list[Callable[[], object]]:
        return [
            lambda: record_seed_tasks(self.store, self.lease, SEEDS),
            lambda: record_pool(self.store, self.lease, POOL),
        ]

    def _climb(self, round: int) -> list[Callable[[], object]]:
        found: list[Callable[[], object]] = [
            lambda: record_proposed(self.store, self.lease, proposed(round)),
            self._close(round, "propose"),
        ]
        for index in range(STEPS):
            found.append(lambda i=index: record_step(self.store, self.lease, self.step(round, i)))
        found += [
            self._close(round, "climb"),
            lambda: record_sync(self.store, self.lease, ()),
            self._close(round, "sync"),
        ]
        return found

    def _close(self, round: int, stage: str) -> Callable[[], object]:
        return lambda: close_stage(self.store, self.lease, round, stage)


def new_run(store: Store, name: str = "a", rounds: int = 2, **more: object) -> str:
    start = NewRun('{"seed": 1}', "c" * 64, {"torch": "2"}, 1, rounds, name=name, id=f"run{name}")
    return create_run(store, replace(start, **more))  # type: ignore[arg-type]


def tell(
    store: Store, name: str = "a", rounds: int = 2, made: Callable[[int, int], StepRecord] = step
) -> str:
    """A finished run of `rounds` rounds; `made` gives the step of a round by its index."""
    run = new_run(store, name, rounds)
    lease = acquire_lease(store, run, "teller", 600)
    for act in Writer(store, lease, made).acts(range(rounds + 1)):
        act()
    finish(store, lease, "done", "all rounds committed")
    release_lease(store, lease)
    return run
