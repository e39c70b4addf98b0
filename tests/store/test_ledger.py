from __future__ import annotations

from dataclasses import replace

import pytest
from store_story import (
    POOL,
    SEEDS,
    STEPS,
    Writer,
    generator_credit,
    group,
    new_run,
    probes,
    proposed,
    step,
    tell,
    versions,
)

from pipeline.types import Evidence, Remembered, StepRecord
from store.database import Lease, Store
from store.errors import Conflict, OutOfOrder, Unfinished, Unknown
from store.invariants import verify
from store.leases import acquire_lease
from store.ledger import (
    PoolItem,
    ask_rounds,
    close_stage,
    finish,
    load_proposed,
    load_steps,
    record_pool,
    record_probes,
    record_proposed,
    record_seed_tasks,
    record_step,
    record_sync,
    seed_tasks,
    stage_done,
    steps_done,
)
from store.memory import memory, seen_questions
from store.points import (
    Point,
    checkpoints,
    fork_folders,
    mark_pruned,
    record_checkpoint,
)
from store.questions import runs


def begun(store: Store, upto: int, name: str = "a") -> Lease:
    """A run told up to and with round `upto`, still owned."""
    run = new_run(store, name, rounds=9)
    lease = acquire_lease(store, run, "teller", 600)
    for act in Writer(store, lease).acts(range(upto + 1)):
        act()
    return lease


def started(store: Store) -> Lease:
    """Round 0 is told, and round 1's proposals are recorded and closed."""
    lease = begun(store, 0)
    record_proposed(store, lease, proposed(1))
    close_stage(store, lease, 1, "propose")
    return lease


def test_steps_and_proposals_come_back_equal_in_every_bit(store: Store) -> None:
    run = tell(store)
    for round in (1, 2):
        assert load_proposed(store, run, round) == proposed(round)
        assert load_steps(store, run, round) == [step(round, index) for index in range(STEPS)]
        assert steps_done(store, run, round) == STEPS
    assert seed_tasks(store, run) == list(SEEDS)
    assert load_proposed(store, run, 3) is None
    assert (load_steps(store, run, 3), steps_done(store, run, 3)) == ([], 0)


def test_two_runs_of_the_same_content_have_the_same_chain_and_nothing_is_violated(
    store: Store,
) -> None:
    first, second = tell(store, "a"), tell(store, "b")
    digests = [stage_done(store, run, 2, "probe") for run in (first, second)]
    assert digests[0] is not None
    assert digests[0] == digests[1]
    assert verify(store)["violations"] == []


def test_writing_everything_twice_changes_nothing(store: Store) -> None:
    lease = begun(store, 0)
    for act in Writer(store, lease).acts((1, 2)):
        act()
        act()
    for act in Writer(store, lease).acts((0, 1, 2)):
        act()
    assert stage_done(store, lease.run, 2, "probe") == stage_done(
        store, tell(store, "b"), 2, "probe"
    )
    assert verify(store, lease.run)["violations"] == []


def test_the_chain_tells_runs_apart_that_differ_in_one_float(store: Store) -> None:
    lease, other = started(store), tell(store, "b")
    record = step(1, 0)
    stats = replace(record.updates["solver"], loss=record.updates["solver"].loss + 1e-15)
    record_step(store, lease, replace(record, updates={"solver": stats}))
    record_step(store, lease, step(1, 1))
    assert close_stage(store, lease, 1, "climb") != stage_done(store, other, 1, "climb")


def test_seconds_are_kept_but_are_no_part_of_the_chain(store: Store) -> None:
    lease, other = started(store), tell(store, "b")
    record_step(store, lease, replace(step(1, 0), seconds={"attempt": 99.0}))
    record_step(store, lease, step(1, 1))
    assert close_stage(store, lease, 1, "climb") == stage_done(store, other, 1, "climb")
    assert load_steps(store, lease.run, 1)[0].seconds == {"attempt": 99.0}


def changed_step() -> StepRecord:
    record = step(1, 0)
    first = record.credited[0]
    return replace(record, credited=(replace(first, advantages=(9.0,)), *record.credited[1:]))


@pytest.mark.parametrize("what", ["step", "proposals", "probes", "checkpoint", "seeds", "pool"])
def test_the_same_key_with_other_content_is_a_conflict_and_changes_nothing(
    store: Store, what: str
) -> None:
    lease = begun(store, 1)
    seeds = (replace(SEEDS[0], reference="no"), *SEEDS[1:])
    other_probes = [replace(probes(1)[0], version="solver@0"), *probes(1)[1:]]
    point = Point(lease.run, 1, "elsewhere", "f" * 64, versions(1))
    with pytest.raises(Conflict):
        {
            "step": lambda: record_step(store, lease, changed_step()),
            "proposals": lambda: record_proposed(
                store, lease, replace(proposed(1), candidates=((None, None),) * STEPS)
            ),
            "probes": lambda: record_probes(store, lease, 1, other_probes),
            "checkpoint": lambda: record_checkpoint(store, lease, point),
            "seeds": lambda: record_seed_tasks(store, lease, seeds),
            "pool": lambda: record_pool(store, lease, [PoolItem("pool-0", "Q", "A", "?", True)]),
        }[what]()
    assert verify(store)["violations"] == []


def test_a_group_that_comes_back_with_other_rollouts_is_a_conflict(store: Store) -> None:
    lease = started(store)
    record = step(1, 0)
    stranger = group("r01-p000", "generator", SEEDS[0], "solver@0", size=2)
    stranger = replace(stranger, rollouts=stranger.rollouts[::-1])
    credited = (*record.credited[:-1], generator_credit(stranger, "r01-p000-g1"))
    with pytest.raises(Conflict, match="group r01-p000"):
        record_step(store, lease, replace(record, credited=credited))
    assert load_steps(store, lease.run, 1) == []


def test_a_closed_stage_takes_no_new_rows(store: Store) -> None:
    lease = begun(store, 1)
    with pytest.raises(Conflict, match=r"probe of round 1 .* is closed"):
        record_probes(store, lease, 1, [replace(probes(1)[0], slice="depth=9")])
    with pytest.raises(Conflict, match=r"climb of round 1 .* is closed"):
        record_step(store, lease, replace(step(1, 1), step=3))
    with pytest.raises(Conflict, match=r"checkpoint of round 0 .* is closed"):
        record_seed_tasks(store, lease, [replace(SEEDS[0], id="late")])
    with pytest.raises(Conflict, match=r"probe of round 0 .* is closed"):
        record_pool(store, lease, [*POOL, PoolItem("late", "Q", "A", "?", True)])


def test_stages_close_in_order_and_steps_count_up(store: Store) -> None:
    lease = begun(store, 0)
    with pytest.raises(OutOfOrder, match="climb of round 1 cannot close before propose"):
        close_stage(store, lease, 1, "climb")
    with pytest.raises(OutOfOrder, match="propose of round 2 cannot close before probe of round 1"):
        close_stage(store, lease, 2, "propose")
    with pytest.raises(OutOfOrder, match="no stage 'climb'"):
        close_stage(store, lease, 0, "climb")
    record_proposed(store, lease, proposed(1))
    record_step(store, lease, step(1, 0))
    with pytest.raises(OutOfOrder, match="the next is 2, not 3"):
        record_step(store, lease, step(2, 0))


def test_closing_again_gives_the_same_digest_but_not_with_other_content(store: Store) -> None:
    lease = begun(store, 0)
    digest = close_stage(store, lease, 1, "propose", "abc")
    assert close_stage(store, lease, 1, "propose", "abc") == digest
    assert stage_done(store, lease.run, 1, "propose") == digest
    with pytest.raises(Conflict):
        close_stage(store, lease, 1, "propose", "abd")


def test_a_rollout_of_a_version_that_nothing_recorded_is_refused(store: Store) -> None:
    lease = started(store)
    record = step(1, 0)
    with pytest.raises(Unknown, match="no row holds the version 'solver@7'"):
        record_step(store, lease, replace(record, credited=(strange_version(record),)))


def strange_version(record: StepRecord):  # type: ignore[no-untyped-def]
    first = record.credited[0]
    rollouts = tuple(replace(r, version="solver@7") for r in first.judged.group.rollouts)
    changed = replace(first.judged.group, id="other", rollouts=rollouts)
    return replace(first, judged=replace(first.judged, group=changed))


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(store: Store) -> None:
    lease = started(store)
    record = step(1, 0)
    first = record.credited[0]
    bad = Evidence("measured", "proxy@0", (float("nan"),), (-1.0,))
    judged = replace(first.judged, evidence=(bad, first.judged.evidence[1]))
    for wrong in (
        replace(record, credited=(replace(first, judged=judged),)),
        replace(record, credited=(replace(first, advantages=(float("inf"),)),)),
        replace(record, updates={"solver": replace(record.updates["solver"], kl=float("nan"))}),
    ):
        with pytest.raises(ValueError, match=r"finite|JSON compliant"):
            record_step(store, lease, wrong)
    wrong_probe = replace(probes(1)[0], estimate=replace(probes(1)[0].estimate, low=float("nan")))
    with pytest.raises(ValueError, match="solver/accuracy"):
        record_probes(store, lease, 1, [wrong_probe])
    assert load_steps(store, lease.run, 1) == []


def test_a_step_of_nothing_but_counts_is_kept_too(store: Store) -> None:
    lease = started(store)
    empty = StepRecord(1, 1, (), (), {}, ())
    record_step(store, lease, empty)
    assert load_steps(store, lease.run, 1) == [empty]


def test_an_attempted_task_that_was_not_admitted_keeps_its_question(store: Store) -> None:
    lease = started(store)
    record = replace(step(1, 0), tasks=())
    record_step(store, lease, record)
    assert load_steps(store, lease.run, 1) == [record]
    assert memory(store, lease.run, 1) == []


def test_a_refused_sync_leaves_the_version_and_an_accepted_one_makes_it(store: Store) -> None:
    lease = begun(store, 0)
    close_stage(store, lease, 1, "propose")
    moved = step(1, 1).syncs[0]
    refused = replace(moved, source="solver@0", after="proxy@0", accepted=False, step=2)
    close_stage(store, lease, 1, "climb")
    record_sync(store, lease, [refused])
    close_stage(store, lease, 1, "sync")
    with pytest.raises(Unknown, match="solver@2"):
        record_sync(store, lease, [moved])
    assert verify(store, lease.run)["violations"] == []


def test_memory_tells_what_solvers_made_of_admitted_proposals(store: Store) -> None:
    run = tell(store)
    tasks = {round: [step(round, index).tasks[0] for index in range(STEPS)] for round in (1, 2)}
    assert memory(store, run, 1) == [Remembered(task, 0.5, 2) for task in tasks[1]]
    assert memory(store, run, 2, "agreement") == [
        Remembered(task, 1.0, 2) for task in (*tasks[1], *tasks[2])
    ]
    assert seen_questions(store, run, 1) == [task.question for task in tasks[1]]
    assert memory(store, run, 0) == []


def test_a_run_is_done_only_with_its_rounds_and_gives_a_reason(store: Store) -> None:
    lease = begun(store, 1)
    with pytest.raises(Unfinished, match="1 of 9 rounds"):
        finish(store, lease, "done", "?")
    with pytest.raises(ValueError, match="status is one of"):
        finish(store, lease, "asleep", "?")
    finish(store, lease, "paused", "disk is full\x00")
    finish(store, lease, "paused", "disk is full\x00")
    told = runs(store)[0]
    assert (told["status"], told["reason"]) == ("paused", "disk is full\ufffd")
    assert verify(store)["violations"] == []


def test_a_finished_run_may_be_asked_for_more_rounds_but_never_for_fewer(store: Store) -> None:
    run = tell(store)
    lease = acquire_lease(store, run, "more", 600)
    ask_rounds(store, lease, 3)
    for act in Writer(store, lease).acts((3,)):
        act()
    finish(store, lease, "done", "three rounds")
    assert (runs(store)[0]["rounds_done"], runs(store)[0]["status"]) == (3, "done")
    with pytest.raises(ValueError, match="3 rounds already"):
        ask_rounds(store, lease, 2)


def test_checkpoints_are_told_newest_first_and_a_pruned_one_never(store: Store) -> None:
    lease = begun(store, 2)
    listed = checkpoints(store, lease.run)
    assert [point.round for point in listed] == [2, 1, 0]
    assert listed[1] == Point(lease.run, 1, "round-001", "f" * 64, versions(1))
    mark_pruned(store, lease, "round-001")
    assert [point.round for point in checkpoints(store, lease.run)] == [2, 0]


def test_a_fork_inherits_rounds_and_writes_its_own_after_them(store: Store) -> None:
    parent = tell(store, "parent", rounds=2)
    child = new_run(store, "child", rounds=2, parent=(parent, 1))
    lease = acquire_lease(store, child, "teller", 600)
    assert load_steps(store, child, 1) == load_steps(store, parent, 1)
    assert steps_done(store, child, 1) == STEPS
    assert load_proposed(store, child, 2) is None
    assert seed_tasks(store, child) == list(SEEDS)
    assert len(memory(store, child, 2)) == STEPS
    assert [point.round for point in checkpoints(store, child)] == [1, 0]
    assert fork_folders(store, parent) == {"round-001"}
    with pytest.raises(OutOfOrder, match="forked after round 1"):
        record_proposed(store, lease, proposed(1))
    for act in Writer(store, lease).acts((2,)):
        act()
    finish(store, lease, "done", "forked")
    assert load_steps(store, child, 2) == load_steps(store, parent, 2)
    assert stage_done(store, child, 1, "probe") == stage_done(store, parent, 1, "probe")
    assert stage_done(store, child, 2, "probe") != stage_done(store, parent, 2, "probe")
    assert [point.run for point in checkpoints(store, child)] == [child, parent, parent]
    assert verify(store)["violations"] == []


def test_a_fork_begins_at_a_committed_round_alone(store: Store) -> None:
    lease = begun(store, 1)
    with pytest.raises(Unknown, match="no committed round 2"):
        new_run(store, "child", parent=(lease.run, 2))
    with pytest.raises(Unknown, match="no run 'nothing'"):
        new_run(store, "child", parent=("nothing", 0))
