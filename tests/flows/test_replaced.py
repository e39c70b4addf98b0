"""An owner that was frozen, replaced and woken harms nothing of the next, whatever it was at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from flows import stages
from flows.live import Live
from pipeline.checkpoint import TEMPORARY, verify_checkpoint, write_checkpoint
from pipeline.faults import armed
from store import invariants, points, questions
from store.errors import LostLease
from store.leases import acquire_lease
from tests.flows.scripted import SMALL, Bench

SHORT = SMALL.model_copy(update={"rounds": 1, "steps": 1})


def expire(bench: Bench) -> None:
    """The owner has not been heard of for longer than its lease lasts."""
    gone = text("UPDATE lease SET expires = 0, host = 'elsewhere'")
    bench.store.write(None, lambda session: session.execute(gone))


def once(act: Callable[[], object]) -> Callable[[], None]:
    """Acts the first time that it is called."""
    acted: list[int] = []

    def act_once() -> None:
        if not acted:
            acted.append(1)
            act()

    return act_once


def broken(bench: Bench) -> object:
    return invariants.verify(bench.store, None, bench.home.root)["violations"]


@pytest.mark.parametrize("point", ["ck.tmpdir", "ck.manifest", "ck.dir_synced", "ck.renamed"])
def test_an_owner_replaced_while_it_writes_a_checkpoint_leaves_the_next_one_s(
    tmp_path: Path, point: str
) -> None:
    bench = Bench(tmp_path, SHORT)

    def replaced() -> None:
        expire(bench)
        bench.go_on()

    with armed(point, once(replaced)), pytest.raises(LostLease, match="lost ownership"):
        bench.go_on()
    assert broken(bench) == []
    assert [row["status"] for row in questions.runs(bench.store)] == ["done"]
    folders = sorted(path.name for path in bench.home.checkpoints(bench.run).iterdir())
    assert folders == ["round-000", "round-001"]


class Nothing:
    """A part without a file."""

    def save(self, folder: Path) -> None: ...

    def restore(self, folder: Path) -> None: ...


def test_an_owner_that_was_replaced_sweeps_nothing_on_its_way_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SHORT)
    root = bench.home.checkpoints(bench.run)

    def lose(live: Live) -> None:
        expire(bench)
        acquire_lease(bench.store, bench.run, "the next", 600)
        write_checkpoint(root, "round-000", {"learner": Nothing()}, None)  # its row is to come
        (root / f"{TEMPORARY}round-001-abcdef01").mkdir()
        stages.run_stages(live)

    with pytest.raises(LostLease):
        bench.go_on(work=lose)
    assert sorted(path.name for path in root.iterdir()) == [
        f"{TEMPORARY}round-001-abcdef01",
        "round-000",
    ]
    verify_checkpoint(root / "round-000")


def test_what_a_replaced_owner_finished_late_is_no_obstacle_to_the_next(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SHORT)
    root = bench.home.checkpoints(bench.run)

    def meet(live: Live) -> None:
        write_checkpoint(root, "round-000", {"learner": Nothing()}, None)
        stages.run_stages(live)

    bench.go_on(work=meet)
    assert [point.round for point in points.checkpoints(bench.store, bench.run)] == [1, 0]
    assert broken(bench) == []
