"""Runs whose checkpoints are shared: published by their seal, gone on with from any machine."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from flows import stages
from flows.depot import Depot
from flows.errors import Refusal
from flows.home import Home, make_home
from flows.live import Live
from flows.looks import attack
from flows.looks.versions import find_version, stand_at
from flows.owning import outcome
from flows.progress import Quiet
from pipeline.config import RunConfig
from pipeline.faults import armed
from pipeline.files.checkpoint import MANIFEST, SEAL, verify_checkpoint
from pipeline.files.copies import copy_of
from pipeline.files.shared import Unanswered
from store import invariants, points
from store.points import Point
from tests.flows.scripted import SMALL, Bench, Heard, scripted_parts

ROOT = Path(__file__).resolve().parents[2]
SHORT = SMALL.model_copy(update={"rounds": 1, "steps": 1})


class Pulled(RuntimeError):
    """What a test pulls out from under a run."""


def shared_at(config: RunConfig, address: Path | str) -> RunConfig:
    """The configuration with its checkpoints shared at an address."""
    to = config.checkpoint.model_copy(update={"to": str(address)})
    return config.model_copy(update={"checkpoint": to})


def beside(bench: Bench, folder: Path) -> Bench:
    """Another machine: the same store, a home of its own."""
    other = copy.copy(bench)
    other.home = Home(folder, bench.home.store)
    make_home(other.home)
    return other


def depot(bench: Bench) -> Depot:
    return Depot(bench.store, bench.home, bench.home.root)


def broken(bench: Bench) -> list[object]:
    """What `verify` holds against the store, this machine's home and the shared copies."""
    told = invariants.verify(bench.store, None, bench.home.root, depot(bench))["violations"]
    assert isinstance(told, list)
    return [*told]


def place(point: Point) -> str:
    return copy_of(point.run, point.folder, point.manifest_digest)


def one_round(live: Live) -> None:
    for one in stages.to_do(live):
        if one[0] == 2:
            return
        stages.take_stage(live, *one)


def stop_at(pass_: int, act: Callable[[], None]) -> Callable[[], None]:
    """Acts when a fault point is passed for the `pass_`-th time."""
    passed: list[int] = []

    def at_pass() -> None:
        passed.append(1)
        if len(passed) == pass_:
            act()

    return at_pass


def pull() -> None:
    raise Pulled


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The chain of a short run that shares nothing and was never stopped."""
    bench = Bench(tmp_path_factory.mktemp("alone"), SHORT)
    bench.go_on()
    return bench.chain()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The chain of a run of two rounds that shares nothing and was never stopped."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.go_on()
    return bench.chain()


def test_every_committed_checkpoint_has_a_copy_of_the_same_bytes(
    tmp_path: Path, alone: list[str]
) -> None:
    bench = Bench(tmp_path / "home", shared_at(SHORT, tmp_path / "shared"))
    bench.go_on()
    kept = points.checkpoints(bench.store, bench.run)
    assert [point.round for point in kept] == [1, 0]
    for point in kept:
        here, there = bench.home.root / point.folder, tmp_path / "shared" / place(point)
        files = sorted(p.relative_to(here) for p in here.rglob("*") if p.is_file())
        assert sorted(p.relative_to(there) for p in there.rglob("*") if p.is_file()) == files
        assert all((here / file).read_bytes() == (there / file).read_bytes() for file in files)
    assert bench.chain() == alone
    assert broken(bench) == []


@pytest.mark.parametrize(
    ("point", "pass_", "seals"),
    [
        ("ck.upload_part", 1, 0),
        ("ck.upload_part", 3, 0),
        ("ck.upload_done", 2, 2),
        ("ck.row", 1, 1),
    ],
)
def test_a_run_stopped_while_it_uploads_ends_in_the_same_chain_without_debris(
    tmp_path: Path, alone: list[str], point: str, pass_: int, seals: int
) -> None:
    bench = Bench(tmp_path / "home", shared_at(SHORT, tmp_path / "shared"))
    with armed(point, stop_at(pass_, pull)), pytest.raises(Pulled):
        bench.go_on()
    assert len(list((tmp_path / "shared").rglob(SEAL))) == seals
    rows = points.checkpoints(bench.store, bench.run)
    assert len(rows) == seals - (point == "ck.upload_done")  # the row comes after the seal
    bench.go_on()
    assert bench.chain() == alone
    assert broken(bench) == []


def test_a_half_upload_that_is_not_made_again_is_swept(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "home", shared_at(SHORT, tmp_path / "shared"))
    orphan = tmp_path / "shared" / bench.run / "round-001" / ("0" * 16) / "learner" / "x"
    other = tmp_path / "shared" / "another" / "round-001" / ("0" * 16) / "x"
    note = tmp_path / "shared" / bench.run / "note.txt"
    for file in (orphan, other, note):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    bench.go_on()
    assert not orphan.parents[1].exists()
    assert other.exists()
    assert note.exists()  # whatever is not a copy of ours stays


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.faults import arm
from tests.flows.scripted import Bench
from tests.flows.test_depot import SHORT, shared_at, stop_at
folder, address, point, number = sys.argv[1:]
arm(point, stop_at(int(number), lambda: os.kill(os.getpid(), signal.SIGKILL)))
Bench(Path(folder), shared_at(SHORT, address)).go_on()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("point", "pass_"), [("ck.upload_part", 5), ("ck.upload_done", 2)])
def test_kill_9_in_an_upload_to_an_object_store_costs_nothing_that_was_committed(
    tmp_path: Path, bucket: str, alone: list[str], point: str, pass_: int
) -> None:
    address = f"{bucket}/runs"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "a"), address, point, str(pass_)], cwd=ROOT
    )
    assert killed.returncode == -signal.SIGKILL
    bench = Bench(tmp_path / "a", shared_at(SHORT, address))
    rows = points.checkpoints(bench.store, bench.run)
    assert len(rows) == (point == "ck.upload_done")
    other = beside(bench, tmp_path / "b")  # the machine that was killed does not come back
    other.go_on()
    assert bench.chain() == alone
    assert broken(other) == []


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_one_machine_begins_and_another_goes_on(
    request: pytest.FixtureRequest, tmp_path: Path, whole: list[str], kind: str
) -> None:
    shared = f"{request.getfixturevalue('bucket')}/runs" if kind == "s3" else tmp_path / "shared"
    first = Bench(tmp_path / "a", shared_at(SMALL, shared))
    first.go_on(work=one_round)
    second, heard = beside(first, tmp_path / "b"), Heard()
    second.go_on(progress=heard)
    assert heard.said == [f"fetches the checkpoint of round 1 from {shared}"]
    assert heard.again == []  # no step was taken again
    assert first.chain() == whole
    assert broken(second) == []
    assert broken(first) == []
    back = Heard()
    first.go_on(progress=back)  # and the first may come back
    assert back.said == [f"fetches the checkpoint of round 2 from {shared}"]


def test_a_home_whose_folder_is_broken_takes_the_copy_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "home", shared_at(SMALL, tmp_path / "shared"))
    bench.go_on(work=one_round)
    newest = points.checkpoints(bench.store, bench.run)[0]
    (bench.home.root / newest.folder / "proxy" / "proxy.safetensors").write_bytes(b"")
    assert "I4" in str(broken(bench))
    heard = Heard()
    bench.go_on(progress=heard)
    assert "in the place of one that is broken" in heard.said[0]
    assert broken(bench) == []


def test_what_a_machine_wrote_and_another_row_replaced_goes_when_it_comes_back(
    tmp_path: Path, whole: list[str]
) -> None:
    bench = Bench(tmp_path / "home", shared_at(SMALL, tmp_path / "shared"))
    bench.go_on(work=one_round)
    kept = points.checkpoints(bench.store, bench.run)
    for point in kept:
        (bench.home.root / point.folder / MANIFEST).write_text("of another machine")
    assert str(broken(bench)).count("I4") == 2
    bench.go_on()
    assert broken(bench) == []
    assert not (bench.home.root / kept[-1].folder).exists()  # round 0, not needed here
    assert bench.chain() == whole


def test_a_copy_altered_afterwards_is_refused_and_older_goes_past_it(
    tmp_path: Path, bucket: str, whole: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.files.shared.WAITS", ())
    first = Bench(tmp_path / "a", shared_at(SMALL, f"{bucket}/runs"))
    first.go_on(work=one_round)
    newest = points.checkpoints(first.store, first.run)[0]
    object_ = f"{bucket}/runs/{place(newest)}/proxy/proxy.safetensors"
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    data = files.cat_file(object_)
    files.pipe_file(object_, data[:-1] + bytes([data[-1] ^ 1]))
    assert "I4" in str(broken(first))
    second = beside(first, tmp_path / "b")
    with pytest.raises(Refusal, match=r"has SHA-256[\s\S]*--older"):
        second.go_on()
    assert not (second.home.root / newest.folder).exists()
    heard = Heard()
    second.go_on(older=True, progress=heard)
    assert heard.again == [1, 2]
    assert first.chain() == whole


def test_a_copy_without_its_seal_is_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.files.shared.WAITS", ())
    first = Bench(tmp_path / "a", shared_at(SHORT, tmp_path / "shared"))
    first.go_on()
    newest = points.checkpoints(first.store, first.run)[0]
    (tmp_path / "shared" / place(newest) / SEAL).unlink()
    second = beside(first, tmp_path / "b")
    with pytest.raises(Refusal, match=r"manifest.sha256 is missing"):
        second.go_on()
    assert not (second.home.root / newest.folder).exists()


def test_a_fork_on_another_machine_begins_from_its_parent_s_copy(tmp_path: Path) -> None:
    first = Bench(tmp_path / "a", shared_at(SMALL, tmp_path / "shared"))
    first.go_on()
    second = beside(first, tmp_path / "b")
    second.config = shared_at(SMALL, tmp_path / "elsewhere")
    second.new("branch", parent=(first.run, 1))
    heard = Heard()
    second.go_on("branch", progress=heard)
    assert heard.said == [f"fetches the checkpoint of round 1 from {tmp_path / 'shared'}"]
    assert sorted(p.name for p in (tmp_path / "elsewhere").iterdir()) == ["branch"]
    assert broken(second) == []
    assert broken(first) == []  # which has nothing of the branch, and need not


def test_a_version_can_be_asked_and_attacked_on_another_machine(tmp_path: Path) -> None:
    first = Bench(tmp_path / "a", shared_at(SMALL, tmp_path / "shared"))
    first.go_on()
    second = beside(first, tmp_path / "b")
    wanted = find_version(second.store, f"{first.run}@1")
    parts = stand_at(second.store, second.home, wanted, scripted_parts, Quiet())
    assert parts.learner.versions()["solver"].checksum == wanted.version.checksum
    parts = attack.parts_of(second.home, first.run, scripted_parts)
    assert parts.learner.versions()["solver"].id == "solver@4"
    assert broken(second) == []


def test_pruning_takes_shared_copies_too_their_seals_first(tmp_path: Path) -> None:
    keep = SMALL.checkpoint.model_copy(update={"keep": 2})
    config = SMALL.model_copy(update={"rounds": 5, "steps": 1, "checkpoint": keep})
    bench = Bench(tmp_path / "home", shared_at(config, tmp_path / "shared"))
    copies = tmp_path / "shared" / bench.run

    def half_gone() -> None:
        gone = [c for c in copies.glob("*/*") if not (c / SEAL).exists()]
        if gone:  # of a copy that is on its way out, the seal has gone and the rest is there
            assert all((c / MANIFEST).exists() for c in gone)
            raise Pulled

    with armed("gc.mid_unlink", half_gone), pytest.raises(Pulled):
        bench.go_on()
    bench.go_on()
    kept = points.checkpoints(bench.store, bench.run)
    assert len(kept) in (2, 3)
    assert sorted(p.relative_to(tmp_path / "shared").as_posix() for p in copies.glob("*/*")) == (
        sorted(map(place, kept))
    )
    assert broken(bench) == []


def test_a_machine_that_fetches_twice_at_once_keeps_one_whole_folder(tmp_path: Path) -> None:
    first = Bench(tmp_path / "a", shared_at(SHORT, tmp_path / "shared"))
    first.go_on()
    newest = points.checkpoints(first.store, first.run)[0]
    second = beside(first, tmp_path / "b")
    inner: list[Path] = []

    def again() -> None:
        if not inner:
            inner.append(second.home.root)
            depot(second).fetch(newest)

    with armed("ck.renamed", again):
        folder = depot(second).fetch(newest)
    verify_checkpoint(folder, newest.manifest_digest)
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_a_shared_folder_that_does_not_answer_pauses_the_run() -> None:
    assert outcome(Unanswered("s3://bucket: a: TimeoutError")) == (
        "paused",
        "shared folder: Unanswered: s3://bucket: a: TimeoutError",
    )
