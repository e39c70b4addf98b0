"""What a disk refuses is told by its number, in this process and in those of a learner's group."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from flows.owning import outcome
from pipeline.files.saving import of_disk, save_tensors
from pipeline.learning.launch.child import work
from pipeline.learning.launch.group import Group, agreed
from pipeline.learning.launch.learner import Remote
from pipeline.learning.launch.messages import Answer, Ask
from pipeline.learning.learner import Lines

WORDS = "Error while serializing: I/O error: No space left on device (os error {})"
LIMITED = """
import resource, sys, torch
from pathlib import Path
from pipeline.files.saving import save_tensors
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    save_tensors({"w": torch.zeros(1000)}, Path(sys.argv[1]))
except OSError as error:
    print(error.errno, error.filename)
"""


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    save_tensors({"w": weight}, tmp_path / "w")
    assert load_file(tmp_path / "w")["w"].equal(weight)


def test_a_file_that_the_system_does_not_let_grow_is_an_error_with_its_number(
    tmp_path: Path,
) -> None:
    file = tmp_path / "w.safetensors"
    told = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file)], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(errno.EFBIG), str(file)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_pauses_a_run(number: int) -> None:
    error = of_disk(SafetensorError(WORDS.format(number)), Path("solver.weights.safetensors"))
    assert error is not None
    status, reason = outcome(error)
    assert status == "paused"
    assert reason.startswith("disk: OSError: ")
    assert "solver.weights.safetensors" in reason


def test_what_is_no_matter_of_the_disk_stays_as_it_was(tmp_path: Path) -> None:
    assert of_disk(SafetensorError("tensor w is of no known kind"), tmp_path) is None


class Full(Lines):
    """Lines on a disk that answers everything with one error."""

    def __init__(self, number: int) -> None:
        self.number, self.trainees = number, {}

    def save(self, folder: Path) -> None:
        raise OSError(self.number, "refused", str(folder / "w"))

    def state(self, line: str) -> Mapping[str, torch.Tensor]:
        raise OSError(self.number, "refused")


def test_a_process_whose_disk_is_full_answers_so_and_ends_over_any_other_error() -> None:
    told = Answer(failed="full", said="refused: a/w")
    assert work(Full(errno.ENOSPC), Ask("save", "a")) == told
    assert work(Full(errno.EDQUOT), Ask("state", "a/w")) == told
    with pytest.raises(OSError, match="refused"):
        work(Full(errno.EIO), Ask("save", "a"))


def test_one_full_disk_is_the_groups_answer_and_any_other_difference_is_none() -> None:
    full, well, other = Answer(failed="full", said="a"), Answer(), Answer(marks={"solver": "1"})
    assert agreed({1: well, 0: well}) == well
    assert agreed({0: well, 1: full, 2: other}) == full
    assert agreed({0: well, 1: other}) is None


class OneFull:
    """A group that answers everything with a full disk."""

    first = Answer()

    def ask(self, ask: Ask) -> Answer:
        return Answer(failed="full", said="No space left on device: a/w")


def test_a_run_over_several_processes_pauses_for_a_full_disk_too(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device: a/w") as raised:
        Remote(cast(Group, OneFull())).save(tmp_path)
    assert outcome(raised.value)[0] == "paused"
