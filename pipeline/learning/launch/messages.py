"""What a learner's processes are asked and answer: JSON, one line each.

What is large goes through files in the group's own folder: plans as JSON, weights and checkpoints
as safetensors. Floats travel by their shortest digits, so every bit of them arrives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter

from pipeline.config import RunConfig
from pipeline.learning.order import Lesson, Order
from pipeline.types import Line, UpdateStats, Version

T = TypeVar("T")
Device = Literal["cpu", "cuda"]
JOB, SOCKET = "job.json", "socket"


@dataclass(frozen=True, slots=True)
class Job:
    """What every process builds its lines from.

    place   folder or Hub name of the base
    device  "cpu", or "cuda" for one GPU each
    """

    config: RunConfig
    place: str
    device: Device


@dataclass(frozen=True, slots=True)
class Ask:
    """A thing that every process is to do, and where its file or folder is."""

    do: Literal["take", "study", "state", "save", "restore", "end"]
    place: str = ""
    line: Line = "solver"


@dataclass(frozen=True, slots=True)
class Hello:
    """The first line of a process: who it is."""

    rank: int
    pid: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an ask, or of the start.

    marks   per line, a number of all its weights where every process holds them; else ""
    failed  "refused", "not_finite" and "full", of a disk, change nothing; after "error" the process
            ends
    said    the failure's own words

    All processes answer alike, or they have come apart; but a disk may be full for one alone.
    """

    updates: dict[Line, UpdateStats] = field(default_factory=dict)
    versions: dict[Line, Version] = field(default_factory=dict)
    marks: dict[Line, str] = field(default_factory=dict)
    failed: Literal["", "refused", "not_finite", "full", "error"] = ""
    said: str = ""


JOBS: TypeAdapter[Job] = TypeAdapter(Job)
ASKS: TypeAdapter[Ask] = TypeAdapter(Ask)
HELLOS: TypeAdapter[Hello] = TypeAdapter(Hello)
ANSWERS: TypeAdapter[Answer] = TypeAdapter(Answer)
ORDERS: TypeAdapter[Order] = TypeAdapter(Order)
LESSONS: TypeAdapter[Lesson] = TypeAdapter(Lesson)


def line_of(shape: TypeAdapter[T], value: T) -> bytes:
    """A value as one line."""
    return shape.dump_json(value) + b"\n"


def write_file(shape: TypeAdapter[T], value: T, path: Path) -> None:
    """A value as a file; json writes the NaN and infinities that pydantic would make null."""
    path.write_text(json.dumps(shape.dump_python(value), separators=(",", ":")))


def read_file(shape: TypeAdapter[T], path: Path) -> T:
    """Read it back, to the last bit."""
    return shape.validate_json(path.read_bytes())
