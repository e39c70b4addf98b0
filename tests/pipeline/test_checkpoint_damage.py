"""A checkpoint that is not as it was written is refused, whatever happened to it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.files.checkpoint import (
    MANIFEST,
    MARKER,
    SEAL,
    BadCheckpoint,
    Checkpoint,
    restore_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)

CORRUPTIONS = 300


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


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap_files(folder: Path) -> None:
    one, two = folder / "policy/head.json", folder / "random/head.json"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def link(folder: Path) -> None:
    target = folder / "policy/head.json"
    shutil.copy(target, folder.parent / "elsewhere")
    target.unlink()
    target.symlink_to(folder.parent / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (lambda f: flip(f / "policy/head.json"), "head.json: its bytes changed"),
    "cut": (
        lambda f: cut(f / "policy/deep/tail.bin"),
        "tail.bin: has 9 bytes, the manifest says 10",
    ),
    "missing": (lambda f: (f / "policy/head.json").unlink(), "head.json: the file is missing"),
    "extra": (lambda f: (f / "policy/x").write_bytes(b""), "x: the file is not in the manifest"),
    "extra folder": (lambda f: (f / "more").mkdir(), "more: the folder is not in the manifest"),
    "swapped": (swap_files, "its bytes changed"),
    "linked": (link, "a link may not stand"),
    "no part": (lambda f: shutil.rmtree(f / "random"), "the file is missing"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), f"{MANIFEST}: the file is missing"),
    "manifest flipped": (lambda f: flip(f / MANIFEST), f"{MANIFEST}: differs from its seal"),
    "seal flipped": (lambda f: flip(f / SEAL), f"{MANIFEST}: differs from its seal"),
    "marker flipped": (lambda f: flip(f / MARKER), f"{MARKER}: is not the marker"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name_before_any_part_reads_it(
    tmp_path: Path, name: str
) -> None:
    damage, message = DAMAGE[name]
    folder = written(tmp_path).folder
    damage(folder)
    untouched = {"policy": Blob(b"mine"), "random": Blob(b"mine")}
    with pytest.raises(BadCheckpoint, match=message) as refusal:
        restore_checkpoint(folder, untouched)
    assert "restore an older checkpoint" in str(refusal.value)
    assert [part.data for part in untouched.values()] == [b"mine", b"mine"]


def test_random_corruptions_are_all_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "whole").folder
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rng = random.Random(7)
    refused = 0
    for _ in range(CORRUPTIONS):
        path = rng.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        match rng.randrange(3):
            case 0:
                bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            case 1:
                del bad[rng.randrange(len(bad)) :]
            case _:
                bad.insert(rng.randrange(len(bad) + 1), rng.randrange(256))
        path.write_bytes(bad)
        with pytest.raises(BadCheckpoint):
            verify_checkpoint(folder)
        refused += 1
        path.write_bytes(good)
    verify_checkpoint(folder)
    assert refused == CORRUPTIONS
