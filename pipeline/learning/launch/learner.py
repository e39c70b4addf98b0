"""The learner that a run holds where several processes train: it plans, they take the step."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.batch import Splice
from pipeline.learning.launch.group import Group, Launch
from pipeline.learning.launch.messages import LESSONS, ORDERS, Answer, Ask, write_file
from pipeline.learning.order import Lesson, Order
from pipeline.learning.ordered import Ordered, Publish
from pipeline.ports import NonFinite
from pipeline.types import Line, UpdateStats, Version


class LaunchedLearner(Ordered):
    """Fills the Learner and Saved ports as `PolicyLearner` does, with other processes' weights.

    Raises GroupFailed where a process is lost, fails or takes too long, and none is left then;
    ValueError for more processes than GPUs.
    """

    def __init__(self, launch: Launch, splice: Splice, publish_to: Mapping[Line, Publish]) -> None:
        wanted, there = launch.job.config.learner.processes, torch.cuda.device_count()
        if launch.job.device == "cuda" and there < wanted:
            raise ValueError(
                f"learner.processes is {wanted} and torch sees {there} GPUs here, one for each; "
                f"set learner.processes={there}"
            )
        self.group = Group(launch)
        super().__init__(Remote(self.group), launch.job.config, splice, publish_to)


class Remote:
    """Fills Hands: hands everything on to a group, which writes what is large into files."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._versions = group.first.versions

    def versions(self) -> dict[Line, Version]:
        return dict(self._versions)

    def take(self, order: Order) -> dict[Line, UpdateStats]:
        file = self.group.file("order.json")
        write_file(ORDERS, order, file)
        return self._ask(Ask("take", str(file))).updates

    def study(self, lesson: Lesson) -> dict[Line, UpdateStats]:
        file = self.group.file("lesson.json")
        write_file(LESSONS, lesson, file)
        return self._ask(Ask("study", str(file))).updates

    def state(self, line: Line) -> Mapping[str, Tensor]:
        """Read from a file that goes again: nothing of it is shared with the processes."""
        file = self.group.file(f"{line}.safetensors")
        self._ask(Ask("state", str(file), line))
        state: dict[str, Tensor] = load_file(file)
        file.unlink()
        return state

    def save(self, folder: Path) -> None:
        self._ask(Ask("save", str(folder.resolve())))

    def restore(self, folder: Path) -> None:
        self._ask(Ask("restore", str(folder.resolve())))

    def close(self) -> None:
        self.group.close()

    def _ask(self, ask: Ask) -> Answer:
        answer = self.group.ask(ask)
        if answer.failed == "not_finite":
            raise NonFinite(answer.said)
        if answer.failed == "refused":
            raise ValueError(answer.said)
        if answer.failed == "full":
            raise OSError(errno.ENOSPC, answer.said)
        self._versions = answer.versions
        return answer
