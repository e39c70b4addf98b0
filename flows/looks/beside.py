"""Runs read beside each other: each axis's start, end and gain, and each run against the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from flows.errors import Refusal
from flows.looks.figures import AXES, Figure, RoundFigures, read_rounds
from flows.settings import difference
from pipeline.config import DataConfig, RunConfig, recorded
from pipeline.measures import NotMeasurable, paired
from pipeline.types import Estimate
from store import questions
from store.database import Store

PerTask = Mapping[str, float]
Key = tuple[int, str, str, str]  # round, axis, figure, part
# settings that decide what an axis is measured on; where they differ, equal ids are other tasks
TRAINED_ON = ("seed_depth", "seed_tasks", "near_threshold", "duplicates")
MEASURED_ON = (
    "probe.seed",
    *(f"data.{name}" for name in DataConfig.model_fields if name not in TRAINED_ON),
)


@dataclass(frozen=True, slots=True)
class Climb:
    """One axis of one run.

    figure       what is shown of it, such as "accuracy, depth>=3"
    rounds       round -> its figure; the least and the largest are start and end
    gain         end minus start, paired by task
    difference   end minus the first run's end; None for the first run itself, and where the two
                 show different figures
    paired       whether that difference is paired by task: both measured the same tasks
    tasks        tasks it rests on; 0 where it is unpaired
    """

    axis: str
    figure: str
    rounds: Mapping[int, Estimate]
    gain: Estimate | None
    difference: Estimate | None
    paired: bool
    tasks: int

    @property
    def start(self) -> Estimate:
        return self.rounds[min(self.rounds)]

    @property
    def end(self) -> Estimate:
        return self.rounds[max(self.rounds)]


@dataclass(frozen=True, slots=True)
class Beside:
    """One run of the comparison.

    settings  dotted key -> value, of each setting in which any of the runs differ
    tokens    written tokens that its steps learned from, all lines together
    seconds   its steps took; probes, checkpoints and proposals stand beside them
    """

    run: str
    name: str | None
    rounds: int
    steps: int
    tokens: int
    seconds: float
    settings: Mapping[str, JsonValue]
    climbs: tuple[Climb, ...]


@dataclass(frozen=True, slots=True)
class _Read:
    """What the store holds of a run."""

    run: str
    name: str | None
    config: RunConfig
    rounds: list[RoundFigures]
    per_task: Mapping[Key, PerTask]
    updates: list[questions.Answer]


def side_by_side(store: Store, names: Sequence[str]) -> tuple[Beside, ...]:
    """Each run named, in order, set against the first. Raises Refusal for fewer than two."""
    ids = [questions.resolve(store, name) for name in names]
    if len(set(ids)) < 2 or len(set(ids)) < len(ids):
        raise Refusal(
            f"{len(set(ids))} different run(s) in {len(names)} names",
            remedy="name two runs or more, each once; `coclimb runs` lists them",
        )
    read = [_read(store, run) for run in ids]
    dumped = [one.config.model_dump(mode="json") for one in read]
    keys = sorted({key for dump in dumped[1:] for key in difference(dumped[0], dump)})
    return tuple(
        _beside(one, read[0], {key: _setting(dump, key) for key in keys})
        for one, dump in zip(read, dumped, strict=True)
    )


def _read(store: Store, run: str) -> _Read:
    row = next(row for row in questions.runs(store) if row["id"] == run)
    per_task = {
        (cast(int, p["round"]), str(p["axis"]), str(p["name"]), str(p["slice"])): dict(
            cast("list[tuple[str, float]]", p["per_task"])
        )
        for p in questions.probes(store, run)
    }
    config = recorded(str(questions.run_facts(store, run)["config"]))
    name = cast("str | None", row["name"])
    return _Read(
        run, name, config, read_rounds(store, run), per_task, questions.updates(store, run)
    )


def _setting(dump: Mapping[str, JsonValue], key: str) -> JsonValue:
    here: JsonValue = dict(dump)
    for name in key.split("."):
        here = here.get(name) if isinstance(here, dict) else None
    return here


def _beside(own: _Read, first: _Read, settings: Mapping[str, JsonValue]) -> Beside:
    climbs = [_climb(own, first, axis) for axis in AXES]
    seconds = {
        cast(int, row["step"]): math.fsum(cast("dict[str, float]", row["seconds"]).values())
        for row in own.updates
    }
    return Beside(
        run=own.run,
        name=own.name,
        rounds=max((row.round for row in own.rounds), default=0),
        steps=len(seconds),
        tokens=sum(cast(int, row["tokens"]) for row in own.updates),
        seconds=math.fsum(seconds.values()),
        settings=settings,
        climbs=tuple(climb for climb in climbs if climb is not None),
    )


def _climb(own: _Read, first: _Read, axis: str) -> Climb | None:
    """An axis of a run; None where it was not probed."""
    found = _figures(own, axis)
    if not found:
        return None
    there = _figures(first, axis)
    last, start = found[max(found)], found[min(found)]
    against, is_paired, tasks = None, False, 0
    if own is not first and there and there[max(there)].title == last.title:
        ends = _values(own, axis, max(found)), _values(first, axis, max(there))
        is_paired = _same_tasks(own, first) and ends[0].keys() == ends[1].keys()
        against = _paired(*ends) if is_paired else None
        tasks = len(ends[0]) if against is not None else 0
        is_paired = against is not None
        against = against or _unpaired(last, there[max(there)])
    begun, ended = _values(own, axis, min(found)), _values(own, axis, max(found))
    is_gain = len(found) > 1 and start.title == last.title
    return Climb(
        axis=axis,
        figure=last.title,
        rounds={round: _estimate(figure) for round, figure in found.items()},
        gain=_paired(ended, begun) or _unpaired(last, start) if is_gain else None,
        difference=against,
        paired=is_paired,
        tasks=tasks,
    )


def _figures(read: _Read, axis: str) -> dict[int, Figure]:
    return {row.round: figure for row in read.rounds if (figure := row.axis(axis)) is not None}


def _values(read: _Read, axis: str, round: int) -> PerTask:
    figure = _figures(read, axis)[round]
    return read.per_task[round, axis, figure.name, figure.part]


def _same_tasks(one: _Read, other: _Read) -> bool:
    """Whether an id names the same task in both."""
    dumps = [read.config.model_dump(mode="json") for read in (one, other)]
    return all(_setting(dumps[0], key) == _setting(dumps[1], key) for key in MEASURED_ON)


def _paired(one: PerTask, other: PerTask) -> Estimate | None:
    """one minus other over the tasks of both; None with fewer than two."""
    both = [task for task in one if task in other]
    try:
        return paired([[one[task]] for task in both], [[other[task]] for task in both])
    except NotMeasurable:
        return None


def _unpaired(one: Figure, other: Figure) -> Estimate:
    """one minus other as of independent tasks: half widths add in squares."""
    value = one.value - other.value
    up = math.hypot(one.high - one.value, other.value - other.low)
    down = math.hypot(one.value - one.low, other.high - other.value)
    return Estimate(value, value - down, value + up, min(one.n, other.n))


def _estimate(figure: Figure) -> Estimate:
    return Estimate(figure.value, figure.low, figure.high, figure.n)


def title(run: Beside) -> str:
    """A run as it is called here: its name where it has one."""
    return run.name or run.run
