from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

import pipeline
from pipeline.faults import POINTS, armed
from pipeline.files.checkpoint import (
    MANIFEST,
    MARKER,
    SEAL,
    TEMPORARY,
    BadCheckpoint,
    Checkpoint,
    Files,
    restore_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)
from pipeline.files.pruning import Keep, prune, sweep

ELSEWHERE = {"ck.row", "ck.upload_part", "ck.upload_done"}  # of the store, of shared copies
CK_POINTS = sorted(name for name in POINTS - ELSEWHERE if name.startswith("ck."))


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


class Blob:
    """A part whose state is some bytes in two files, one of them in a folder of its own."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def save(self, folder: Path) -> None:
        (folder / "head.json").write_bytes(self.data[:4])
        (folder / "deep").mkdir()
        (folder / "deep" / "tail.bin").write_bytes(self.data[4:])

    def restore(self, folder: Path) -> None:
        self.data = (folder / "head.json").read_bytes() + (folder / "deep/tail.bin").read_bytes()


def parts() -> dict[str, Blob]:
    return {"policy": Blob(b"policy weights"), "random": Blob(b"random state")}


def written(root: Path, name: str = "round-001") -> Checkpoint:
    return write_checkpoint(root, name, parts(), {"round": 1, "step": 16})


def candidates(root: Path) -> list[str]:
    """Folders that a reader would take for checkpoints, and that verify."""
    found = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if not path.name.startswith(TEMPORARY):
            verify_checkpoint(path)  # a final name that does not verify fails the test
            found.append(path.name)
    return found


def test_what_was_saved_is_restored(tmp_path: Path) -> None:
    made = written(tmp_path / "runs" / "a")
    assert made.folder == tmp_path / "runs" / "a" / "round-001"
    assert made.size == sum(p.stat().st_size for p in made.folder.rglob("*") if p.is_file())
    empty = {"policy": Blob(b""), "random": Blob(b"")}
    assert restore_checkpoint(made.folder, empty) == {"round": 1, "step": 16}
    assert {name: part.data for name, part in empty.items()} == {
        "policy": b"policy weights",
        "random": b"random state",
    }


def test_equal_state_has_an_equal_manifest(tmp_path: Path) -> None:
    assert written(tmp_path / "a").manifest_digest == written(tmp_path / "b").manifest_digest


class Recorder(Files):
    """Lists what is done, in order; may fail once."""

    def __init__(self, fail_at: int = -1, error: int = errno.EIO) -> None:
        self.done: list[str] = []
        self._fail_at, self._error = fail_at, error

    def _note(self, what: str, path: Path) -> None:
        self.done.append(f"{what} {path.name}")
        if len(self.done) - 1 == self._fail_at:
            raise OSError(self._error, os.strerror(self._error), str(path))

    def make_folder(self, path: Path) -> None:
        self._note("folder", path)
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        self._note("write", path)
        super().write(path, data)

    def sync_file(self, path: Path) -> None:
        self._note("sync file", path)
        super().sync_file(path)

    def sync_folder(self, path: Path) -> None:
        self._note("sync folder", path)
        super().sync_folder(path)

    def rename(self, old: Path, new: Path) -> None:
        self._note("rename", new)
        super().rename(old, new)

    def read(self, path: Path) -> bytes:
        self._note("read", path)
        return super().read(path)

    def digest(self, path: Path) -> str:
        self._note("digest", path)
        return super().digest(path)


def test_files_are_synced_before_the_manifest_and_folders_around_the_rename(
    tmp_path: Path,
) -> None:
    files = Recorder()
    write_checkpoint(tmp_path, "round-001", {"policy": Blob(b"policy weights")}, None, files)
    order = [step for step in files.done if not step.startswith(("read", "digest", "folder"))]
    assert order[0] == f"write {MARKER}"
    assert order[1:7] == [
        "sync file tail.bin",
        "sync file head.json",
        f"write {MANIFEST}",
        f"write {SEAL}",
        "sync folder policy",
        "sync folder deep",
    ]
    assert order[7].startswith(f"sync folder {TEMPORARY}")
    assert order[8:] == ["rename round-001", f"sync folder {tmp_path.name}"]


def test_every_operation_may_fail_once_and_the_next_write_succeeds(tmp_path: Path) -> None:
    counter = Recorder()
    write_checkpoint(tmp_path / "count", "round-001", parts(), None, counter)
    whole = len(counter.done)
    for number in range(whole):
        error = (errno.EIO, errno.ENOSPC)[number % 2]
        root = tmp_path / str(number)
        with pytest.raises((OSError, BadCheckpoint), match=os.strerror(error)):
            write_checkpoint(root, "round-001", parts(), None, Recorder(number, error))
        assert candidates(root) in ([], ["round-001"])
        write_checkpoint(root, "round-001", parts(), None)
        assert candidates(root) == ["round-001"]
        sweep(root, {"round-001"})
        assert [path.name for path in root.iterdir()] == ["round-001"]
    assert whole > 20


class Unsynced(Recorder):
    """A disk that forgets at a power cut what was not synced: file bytes, and renames."""

    def __init__(self, fail_at: int, safe: set[Path]) -> None:
        super().__init__(fail_at)
        self.safe = safe
        self.renamed: list[tuple[Path, Path]] = []

    def write(self, path: Path, data: bytes) -> None:
        try:
            super().write(path, data)
        except OSError:
            path.write_bytes(data[: len(data) // 2])
            raise
        self.safe.add(path)

    def sync_file(self, path: Path) -> None:
        super().sync_file(path)
        self.safe.add(path)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.renamed.append((old, new))
        self.safe = {new / p.relative_to(old) if old in p.parents else p for p in self.safe}

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self.renamed = [(old, new) for old, new in self.renamed if new.parent != path]

    def cut(self, root: Path) -> None:
        for path in all_files(root) - self.safe:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for old, new in reversed(self.renamed):
            new.rename(old)


def all_files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def test_after_a_power_cut_at_any_operation_only_whole_checkpoints_stand(tmp_path: Path) -> None:
    written(tmp_path / "count", "round-000")
    counter = Recorder()
    write_checkpoint(tmp_path / "count", "round-001", parts(), None, counter)
    for number in range(len(counter.done)):
        root = tmp_path / str(number)
        written(root, "round-000")
        disk = Unsynced(number, all_files(root))
        with pytest.raises((OSError, BadCheckpoint), match="error"):
            write_checkpoint(root, "round-001", parts(), None, disk)
        disk.cut(root)
        assert "round-000" in candidates(root)
        sweep(root, {"round-000"})
        assert [path.name for path in root.iterdir()] == ["round-000"]


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("point", CK_POINTS)
def test_a_write_killed_at_any_point_is_made_again_and_leaves_no_debris(
    tmp_path: Path, point: str
) -> None:
    expected = written(tmp_path / "whole").manifest_digest
    root = tmp_path / "killed"
    with pytest.raises(Killed), armed(point, kill):
        written(root)
    assert candidates(root) in ([], ["round-001"])
    assert written(root).manifest_digest == expected
    sweep(root, {"round-001"})
    assert [path.name for path in root.iterdir()] == ["round-001"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_checkpoint_under_another_s_name_is_refused(tmp_path: Path) -> None:
    first, second = written(tmp_path, "round-001"), written(tmp_path, "round-002")
    first.folder.rename(tmp_path / "aside")
    second.folder.rename(first.folder)
    with pytest.raises(BadCheckpoint, match="the manifest belongs to 'round-002'"):
        verify_checkpoint(first.folder)
    with pytest.raises(BadCheckpoint, match="the manifest belongs to 'round-001'"):
        verify_checkpoint(tmp_path / "aside")


def test_a_checkpoint_that_is_whole_but_not_the_one_the_store_names_is_refused(
    tmp_path: Path,
) -> None:
    one = written(tmp_path)
    sweep(tmp_path, ())
    other = write_checkpoint(tmp_path, "round-001", parts(), {"round": 2})
    verify_checkpoint(other.folder, other.manifest_digest)
    with pytest.raises(BadCheckpoint, match="the store says"):
        verify_checkpoint(other.folder, one.manifest_digest)


def test_a_name_is_never_taken_from_a_folder_that_has_it(tmp_path: Path) -> None:
    first = written(tmp_path)
    with pytest.raises(FileExistsError, match="round-001 is there, and is another checkpoint"):
        write_checkpoint(tmp_path, "round-001", parts(), {"round": 2})
    verify_checkpoint(first.folder, first.manifest_digest)
    sweep(tmp_path, {"round-001"})
    before = first.folder.stat()
    assert written(tmp_path) == first  # the same bytes: what was there stays
    assert first.folder.stat() == before
    assert candidates(tmp_path) == [path.name for path in tmp_path.iterdir()] == ["round-001"]


def test_other_parts_than_were_saved_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path).folder
    with pytest.raises(BadCheckpoint, match="parts policy, random, asked for policy"):
        restore_checkpoint(folder, {"policy": Blob(b"")})


def test_temporary_and_missing_folders_are_never_checkpoints(tmp_path: Path) -> None:
    folder = written(tmp_path).folder
    temporary = folder.rename(tmp_path / f"{TEMPORARY}round-001")
    with pytest.raises(BadCheckpoint, match="temporary folder is never"):
        verify_checkpoint(temporary)
    with pytest.raises(BadCheckpoint, match="the folder is missing"):
        verify_checkpoint(tmp_path / "round-001")


@pytest.mark.parametrize("name", ["", ".tmp-x", "../up", "a/b", MANIFEST])
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a checkpoint"):
        written(tmp_path, name)


def test_sweeping_leaves_what_is_not_ours_and_what_rows_name(tmp_path: Path) -> None:
    written(tmp_path, "named")
    written(tmp_path, "orphan")
    (tmp_path / f"{TEMPORARY}stranger").mkdir()
    (tmp_path / f"{TEMPORARY}stranger" / "notes.txt").write_text("mine")
    (tmp_path / f"{TEMPORARY}empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "named")
    assert sweep(tmp_path, {"named"}) == [f"{TEMPORARY}empty", "orphan"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{TEMPORARY}stranger",
        "file",
        "link",
        "named",
        "photos",
    ]
    assert sweep(tmp_path / "nowhere", ()) == []


def test_pruning_keeps_the_newest_whole_ones_and_the_protected(tmp_path: Path) -> None:
    names = [f"round-{n:03d}" for n in range(6)]
    for name in names:
        written(tmp_path, name)
    flip(tmp_path / "round-005/policy/head.json")
    forgotten: list[str] = []
    gone = prune(tmp_path, names[::-1], Keep(2, {"round-001"}), forgotten.append)
    assert gone == forgotten == ["round-002", "round-000"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round-001",
        "round-003",
        "round-004",
        "round-005",
    ]


def test_pruning_never_leaves_fewer_whole_ones_than_asked(tmp_path: Path) -> None:
    names = ["round-000", "round-001", "round-002"]
    for name in names:
        written(tmp_path, name)
    for name in names[1:]:
        flip(tmp_path / name / "policy/head.json")
    assert prune(tmp_path, names[::-1], Keep(2), lambda name: None) == []
    with pytest.raises(ValueError, match="at least 2"):
        Keep(1)


@pytest.mark.parametrize(
    "point", ["gc.selected", "gc.row_marked", "gc.mid_unlink", "gc.row_deleted"]
)
def test_pruning_killed_anywhere_never_leaves_half_a_checkpoint_under_its_name(
    tmp_path: Path, point: str
) -> None:
    names = ["round-002", "round-001", "round-000"]
    for name in names:
        written(tmp_path, name)
    forgotten: list[str] = []
    with pytest.raises(Killed), armed(point, kill):
        prune(tmp_path, names, Keep(2), forgotten.append)
    assert set(candidates(tmp_path)) >= {"round-001", "round-002"}
    assert ("round-000" in forgotten) == (point != "gc.selected")
    left = [name for name in names if name not in forgotten]
    sweep(tmp_path, left)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left)


def test_every_fault_point_stands_in_the_source_and_every_call_names_one() -> None:
    house = Path(pipeline.__file__).parents[1]
    sources = [
        file.read_text()
        for room in ("pipeline", "agents", "store", "flows")
        for file in (house / room).rglob("*.py")
    ]
    called = {name for source in sources for name in re.findall(r'\bfault\("([^"]+)"', source)}
    assert called == POINTS
