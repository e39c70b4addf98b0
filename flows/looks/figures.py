"""The three axes by round, as the store tells them: what the display, reports and plots show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from store import questions
from store.database import Store

AXES = ("solver", "verifier", "generator")
NAMES = {
    "accuracy": "accuracy",
    "pair_accuracy": "pair accuracy",
    "matched_auc": "matched AUC",
    "frontier_share": "frontier share",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """An axis's headline figure with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    name: str
    part: str

    @property
    def title(self) -> str:
        """What the figure is, such as "accuracy, depth>=3"."""
        name = NAMES.get(self.name, self.name)
        return name if self.part == "all" else f"{name}, {self.part}"


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """A round's figures; an axis that was not probed has none."""

    round: int
    solver: Figure | None
    verifier: Figure | None
    generator: Figure | None

    def axis(self, name: str) -> Figure | None:
        """The figure of one of AXES."""
        return {"solver": self.solver, "verifier": self.verifier, "generator": self.generator}[name]


def read_rounds(store: Store, run: str) -> list[RoundFigures]:
    """Every probed round of a run, from 0 on."""
    return [
        RoundFigures(cast(int, row["round"]), *(_figure(row[axis]) for axis in AXES))
        for row in questions.rounds(store, run)
    ]


def _figure(told: JsonValue) -> Figure | None:
    if not isinstance(told, dict):
        return None
    value, low, high = (float(cast(float, told[key])) for key in ("value", "low", "high"))
    return Figure(value, low, high, cast(int, told["n"]), str(told["name"]), str(told["slice"]))


def title_of(rows: list[RoundFigures], axis: str) -> str:
    """What an axis shows, from the first round that has it."""
    found = [figure for row in rows if (figure := row.axis(axis)) is not None]
    return found[0].title if found else "not probed"
