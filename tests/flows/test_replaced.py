"""An owner that was frozen, replaced and woken harms nothing of the next, whatever it was at."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from flows import stages
from flows.assemble import Parts
from flows.live import Live
from pipeline.config import RunConfig
from pipeline.faults import armed
from pipeline.files.checkpoint import TEMPORARY, verify_checkpoint, write_checkpoint
from pipeline.files.places import Disk
from store import invariants, points, questions
from store.errors import LostLease
from store.leases import acquire_lease
from tests.flows.scripted import SMALL, Bench, Heard, scripted_parts

SHORT = SMALL.model_copy(update={"rounds": 1, "steps": 1})
QUEUED = SHORT.model_copy(
    update={"work": SHORT.work.model_copy(update={"queue": True, "shard": 2, "helps": True})}
)


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


def weights(bench: Bench) -> list[Path]:
    """Files that the run's workers load."""
    return sorted((bench.home.root / "weights").rglob("*.safetensors"))


def standing(bench: Bench) -> tuple[object, object]:
    [row] = questions.runs(bench.store)
    return row["status"], row["reason"]


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
    assert standing(bench) == ("done", "1 rounds committed")
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


def test_an_owner_that_was_replaced_leaves_the_weights_of_the_next(tmp_path: Path) -> None:
    bench = Bench(tmp_path, QUEUED)
    files: list[Path] = []

    def lose(live: Live) -> None:
        for one in stages.to_do(live):
            stages.take_stage(live, *one)
        expire(bench)
        acquire_lease(bench.store, bench.run, "the next", 600)
        files[:] = weights(bench)
        stages.complete(live)

    with pytest.raises(LostLease):
        bench.go_on(work=lose)
    assert files == weights(bench) != []


def test_a_shared_folder_that_keeps_its_files_leaves_a_run_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, heard = Bench(tmp_path, QUEUED), Heard()

    def refuse(place: Disk, name: str) -> None:
        raise OSError(errno.EIO, "it does not answer")

    monkeypatch.setattr("pipeline.files.shared.WAITS", ())

    def work(live: Live) -> None:
        for one in stages.to_do(live):
            stages.take_stage(live, *one)
        monkeypatch.setattr(Disk, "remove", refuse)
        stages.complete(live)

    bench.go_on(work=work, progress=heard)
    assert standing(bench) == ("done", "1 rounds committed")
    assert heard.said[-1].startswith("the weights of run run stay published: ")
    assert weights(bench) != []


def test_a_part_that_cannot_be_closed_leaves_a_run_done_and_its_home_swept(tmp_path: Path) -> None:
    def stuck(config: RunConfig) -> Parts:
        return replace(scripted_parts(config), close=lambda: os.close(-1))

    bench, heard = Bench(tmp_path, SHORT, assembled=stuck), Heard()
    half = bench.home.checkpoints(bench.run) / f"{TEMPORARY}round-001-abcdef01"

    def work(live: Live) -> None:
        stages.run_stages(live)
        half.mkdir()

    bench.go_on(work=work, progress=heard)
    assert standing(bench) == ("done", "1 rounds committed")
    assert heard.said == ["run run could not be tidied up: [Errno 9] Bad file descriptor"]
    assert not half.exists()


def test_what_a_replaced_owner_finished_late_is_no_obstacle_to_the_next(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SHORT)
    root = bench.home.checkpoints(bench.run)

    def meet(live: Live) -> None:
        write_checkpoint(root, "round-000", {"learner": Nothing()}, None)
        stages.run_stages(live)

    bench.go_on(work=meet)
    assert [point.round for point in points.checkpoints(bench.store, bench.run)] == [1, 0]
    assert broken(bench) == []
