"""A learner that plans each step and hands it, as plain data, to whoever holds the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.learning.order import Lesson, Order, lesson_of, order_of
from pipeline.types import Credited, Judged, Line, UpdateStats, Version

Publish = Callable[[Mapping[str, Tensor], str], None]


class Hands(Protocol):
    """Who holds the weights in training: this process, or a group of others."""

    def take(self, order: Order) -> dict[Line, UpdateStats]:
        """One optimiser step of every line in the order. Raises NonFinite, nothing changed."""
        ...

    def study(self, lesson: Lesson) -> dict[Line, UpdateStats]:
        """One optimiser step of the solver's line. Raises NonFinite, nothing changed."""
        ...

    def versions(self) -> dict[Line, Version]:
        """The versions now in training, by line."""
        ...

    def state(self, line: Line) -> Mapping[str, Tensor]:
        """Full float32 weights of a line, LoRA merged; copy them to keep them."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that a later `restore` needs into an existing empty folder."""
        ...

    def restore(self, folder: Path) -> None:
        """Read it back. Raises ValueError for another base."""
        ...

    def close(self) -> None:
        """End what was started, once."""
        ...


class Ordered:
    """Fills the Learner and Saved ports.

    splice      how references are put behind sampled reasoning, where one carries loss
    publish_to  line -> what takes its weights (LoRA merged) and version, such as an engine's `load`

    A frozen role's groups are not in the loss; a line none of whose roles trains keeps its version.
    Every other line's version grows with each step, also where all its groups were dead.
    """

    def __init__(
        self,
        hands: Hands,
        config: RunConfig,
        splice: Splice,
        publish_to: Mapping[Line, Publish],
    ) -> None:
        self.config, self.publish_to = config, publish_to
        self._hands, self._splice = hands, splice

    def versions(self) -> dict[Line, Version]:
        """The versions now in training, by line."""
        return self._hands.versions()

    def publish(self) -> None:
        """Hand every line's weights to who asked for them."""
        for line, take in self.publish_to.items():
            take(self.state(line), self.versions()[line].id)

    def state(self, line: Line) -> Mapping[str, Tensor]:
        """Full float32 weights of a line, LoRA merged; shared with the model, so copy to keep."""
        return self._hands.state(line)

    def step(self, credited: Sequence[Credited], *, step: int) -> dict[Line, UpdateStats]:
        """One optimiser step of every line in training, with one denominator per role.

        Raises NonFinite when a loss or a gradient is not finite: then no line has changed.
        """
        ids = {line: version.id for line, version in self.versions().items()}
        return self._hands.take(order_of(credited, self.config, self._splice, ids, step=step))

    def study(self, judged: Sequence[Judged], *, step: int) -> dict[Line, UpdateStats]:
        """One optimiser step of the solver's line from stored groups, by the offline objective.

        Raises NonFinite when a loss or a gradient is not finite: then the line has not changed.
        """
        return self._hands.study(lesson_of(judged, self.config, self._splice, step=step))

    def save(self, folder: Path) -> None:
        """Weights and moments of every line in float32, their positions, torch's random state."""
        self._hands.save(folder)

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote: the next step is that of an uninterrupted run."""
        self._hands.restore(folder)

    def close(self) -> None:
        """End what holds the weights; nothing but the versions is answered afterwards."""
        self._hands.close()
