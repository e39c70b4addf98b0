"""What a run says while it works; a display fills it, tests and scripts may leave it quiet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flows.looks.figures import RoundFigures
from pipeline.types import StepRecord


@dataclass(frozen=True, slots=True)
class Plan:
    """How much a run has to do. done: rounds committed when it began; steps are per round."""

    run: str
    rounds: int
    steps: int
    done: int


class Progress(Protocol):
    """Told of everything in order, from one thread; must not raise and never decides anything."""

    def begin(self, plan: Plan) -> None: ...

    def stage(self, round: int, name: str) -> None: ...

    def step(self, record: StepRecord) -> None: ...

    def replayed(self, step: int) -> None: ...

    def probed(self, rows: Sequence[RoundFigures]) -> None: ...

    def say(self, text: str) -> None: ...


class Quiet:
    """Says nothing."""

    def begin(self, plan: Plan) -> None:
        return None

    def stage(self, round: int, name: str) -> None:
        return None

    def step(self, record: StepRecord) -> None:
        return None

    def replayed(self, step: int) -> None:
        return None

    def probed(self, rows: Sequence[RoundFigures]) -> None:
        return None

    def say(self, text: str) -> None:
        return None
