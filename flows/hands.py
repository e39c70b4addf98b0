"""What a worker works with: the engines of one configuration, and the weights they hold now."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from flows.bases import Bases
from flows.engines import Engines
from flows.home import Home
from flows.live import shared_folder
from pipeline.config import RunConfig
from pipeline.engine.messages import answer
from pipeline.files.checkpoint import TEMPORARY
from pipeline.files.published import fetch
from pipeline.items import Item, WeightsFile
from pipeline.parity import Parity
from pipeline.ports import WeightedEngine

# what a worker called as `worker_name` says reads, whole or on its way
_FILE = re.compile(
    rf"({re.escape(TEMPORARY)})?(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{{6}}\.safetensors(-[0-9a-f]+)?"
)


class Makers(Protocol):
    """Makes the engines of a configuration, as `flows.engines.Engines` does.

    parities  what the engines came to against the local one, in order, until someone clears it
    """

    parities: list[Parity]

    def bare(self, line: str) -> WeightedEngine:
        """What answers under a line's weights."""
        ...

    def close(self) -> None:
        """End every process that an engine started."""
        ...


Make = Callable[[RunConfig], Makers]


def engines_of(config: RunConfig) -> Makers:
    """The engines that a run of that configuration would ask in its own process."""
    return Engines(Bases(config.model), config)


@dataclass(frozen=True, slots=True)
class Job:
    """What a run's items need: its configuration, and the threads its own process computes with."""

    config: RunConfig
    threads: int


@dataclass(frozen=True, slots=True)
class Made:
    """An item's answer, and the SHA-256 of the weights that the engine held."""

    answer: bytes
    weights: str


class Hands:
    """Engines, made when an item first asks for one, and kept for as long as items are alike.

    Runs whose models and engines are set alike share them; for any other they are made anew, so
    that no more is held than one run needs.
    """

    def __init__(self, home: Home, name: str, make: Make = engines_of) -> None:
        self._home, self._make = home, make
        self._file = home.root / "scratch" / f"{name}.safetensors"
        self._made: tuple[RunConfig, Makers] | None = None
        self._engines: dict[str, WeightedEngine] = {}
        self._holds: dict[str, WeightsFile] = {}

    @property
    def held(self) -> frozenset[str]:
        """SHA-256 of the weights at hand."""
        return frozenset(weights.sha256 for weights in self._holds.values())

    def answer(self, job: Job, item: Item) -> Made:
        """Work an item out under its weights. Raises BadShared for weights that do not verify."""
        makers = self._take_up(job)
        line = item.weights.version.partition("@")[0]
        if line not in self._engines:
            self._engines[line] = makers.bare(line)
        engine = self._engines[line]
        if self._holds.get(line) != item.weights:
            self._holds.pop(line, None)
            folder = shared_folder(job.config, self._home)
            engine.load(fetch(folder, item.weights, self._file), item.weights.version)
            self._holds[line] = item.weights
        return Made(answer(engine, item), self._holding(line))

    def _holding(self, line: str) -> str:
        """What a line's engine answers under: the weights it took last, if it says so too."""
        held, version = self._holds[line], self._engines[line].version
        return held.sha256 if held.version == version else version

    def compared(self) -> list[Parity]:
        """What the engines came to against the local one since this was last asked."""
        if self._made is None:
            return []
        made = self._made[1]
        told, made.parities[:] = list(made.parities), []
        return told

    def close(self) -> None:
        """Put everything down; the next item has engines made anew."""
        self._engines.clear()
        self._holds.clear()
        made, self._made = self._made, None
        if made is not None:
            made[1].close()

    def _take_up(self, job: Job) -> Makers:
        """What makes the engines of a configuration."""
        if torch.get_num_threads() != job.threads:
            torch.set_num_threads(job.threads)
        if self._made is None or not _alike(self._made[0], job.config):
            self.close()
            self._made = job.config, self._make(job.config)
        return self._made[1]


def worker_name() -> str:
    """A name that no other process has, and that tells which one it is."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def sweep(home: Home) -> None:
    """Remove what workers of this machine were killed over while they read weights."""
    here = socket.gethostname()
    for file in (home.root / "scratch").glob("*.safetensors*"):
        found = _FILE.fullmatch(file.name)
        if found and found["host"] == here and not _is_alive(int(found["pid"])):
            file.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _alike(one: RunConfig, other: RunConfig) -> bool:
    return (one.model, one.engine) == (other.model, other.engine)
