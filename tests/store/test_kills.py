"""A run killed at any fault point ends as one that nothing stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from store_story import Writer, new_run, tell

from pipeline import faults
from pipeline.faults import armed
from store.database import Store
from store.invariants import verify
from store.leases import acquire_lease
from store.ledger import finish, stage_done
from store.questions import runs

# every fault point that a run passes in the store; those of checkpoints, leases and migrations
# are fired by their own tests
POINTS = (
    "gen.item_row",
    "gen.before_commit",
    "gen.after_commit",
    "roll.row",
    "rew.row",
    "upd.row",
    "upd.before_commit",
    "upd.after_commit",
    "sync.row",
    "sync.after_commit",
    "ck.row",
    "eval.row",
    "eval.before_commit",
    "eval.after_commit",
    "stage.before_commit",
    "stage.after_commit",
)


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


@contextmanager
def killed_at_pass(point: str, number: int) -> Iterator[None]:
    passed: Counter[str] = Counter()

    def act() -> None:
        passed[point] += 1
        if passed[point] == number:
            raise Killed

    with armed(point, act):
        yield


def act_all(writer: Writer, rounds: range) -> None:
    for act in writer.acts(rounds):
        act()


def act_then_die(writer: Writer, rounds: range) -> None:
    """Killed at the armed point, or at the end where it lies behind these rounds."""
    act_all(writer, rounds)
    raise Killed


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Final digest of a run of two rounds that nothing stopped, told on SQLite."""
    store = Store.open(str(tmp_path_factory.mktemp("whole") / "s.db"))
    digest = stage_done(store, tell(store), 2, "probe")
    store.close()
    assert digest is not None
    return digest


@pytest.mark.parametrize(("point", "number"), [(p, 1 + n % 2) for n, p in enumerate(POINTS)])
def test_a_run_killed_at_any_point_ends_with_the_chain_of_one_never_killed(
    store: Store, whole: str, point: str, number: int
) -> None:
    run = new_run(store, rounds=2)
    first = Writer(store, acquire_lease(store, run, "first", 0))
    with pytest.raises(Killed), killed_at_pass(point, number):
        act_all(first, range(3))
    lease = acquire_lease(store, run, "second", 600)
    act_all(Writer(store, lease), range(3))
    finish(store, lease, "done", "all rounds committed")
    assert stage_done(store, run, 2, "probe") == whole
    assert verify(store, run)["violations"] == []


def test_a_run_killed_many_times_over_ends_with_the_same_chain_in_either_store(
    store: Store, whole: str
) -> None:
    run = new_run(store, rounds=2)
    for turn, point in enumerate(POINTS):
        writer = Writer(store, acquire_lease(store, run, f"owner-{turn}", 0))
        with pytest.raises(Killed), killed_at_pass(point, 1):
            act_then_die(writer, range(1 + turn % 3))
    lease = acquire_lease(store, run, "last", 600)
    act_all(Writer(store, lease), range(3))
    finish(store, lease, "done", "all rounds committed")
    assert stage_done(store, run, 2, "probe") == whole
    assert verify(store, run)["violations"] == []
    assert acquire_lease(store, run, "last", 600).epoch == len(POINTS) + 1


@pytest.mark.parametrize("point", ["run.before_row", "run.after_row"])
def test_a_start_killed_around_its_row_can_be_made_again(store: Store, point: str) -> None:
    with pytest.raises(Killed), killed_at_pass(point, 1):
        new_run(store)
    assert new_run(store) == "runa"
    assert [row["id"] for row in runs(store)] == ["runa"]


def test_no_fault_point_stays_armed_after_its_block() -> None:
    with armed("roll.row", lambda: None):
        pass
    faults.fault("roll.row")
    with pytest.raises(ValueError, match=r"no fault point is named 'roll\.typo'"):
        faults.arm("roll.typo", lambda: None)
