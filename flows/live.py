"""A run that is alive in this process: its parts, its store, and the right to write."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch

from flows.assemble import Parts, assemble
from flows.home import Home
from flows.progress import Progress, Quiet
from pipeline.config import RunConfig, recorded
from pipeline.engine.queued import Post
from pipeline.published import Published
from pipeline.shared import SharedFolder
from store import questions
from store.database import Lease, Store
from store.work import RunQueue

Assemble = Callable[[RunConfig], Parts]


@dataclass
class Live:
    """What every stage is handed. Nothing of it outlives the process but what the store holds.

    rounds        the last round asked for
    parent_round  the round it was forked after, or None
    """

    store: Store
    home: Home
    run: str
    lease: Lease
    config: RunConfig
    rounds: int
    parts: Parts
    parent_round: int | None = None
    progress: Progress = field(default_factory=Quiet)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's rows and files are."""

    store: Store
    home: Home
    run: str


def repeat_exactly() -> None:
    """Have torch choose the same sums every time, so that a step taken again gives the same bits.

    With two threads or more the gradient of an embedding or of picked rows is otherwise added up
    in whatever order the threads arrive. On a GPU what has no such kernel only warns.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # nothing here reads memory it has not written; torch leaves the setting untyped
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def come_alive(
    place: Place, lease: Lease, progress: Progress, assembled: Assemble = assemble
) -> Live:
    """Build a run's parts from the configuration that its row holds; its weights are the base's."""
    repeat_exactly()
    facts = questions.run_facts(place.store, place.run)
    config = recorded(str(facts["config"]))
    row = next(row for row in questions.runs(place.store) if row["id"] == place.run)
    parts = assembled(config)
    if config.work.queue:
        parts.outlet.open(_post(place, lease, config, progress))
    return Live(
        store=place.store,
        home=place.home,
        run=place.run,
        lease=lease,
        config=config,
        rounds=cast(int, row["rounds_asked"]),
        parts=parts,
        parent_round=cast("int | None", row["parent_round"]),
        progress=progress,
    )


def shared_folder(config: RunConfig, home: Home) -> SharedFolder:
    """Where the weights for a run's workers are, as who works in that home sees it."""
    return SharedFolder(config.work.folder or str(home.root))


def _post(place: Place, lease: Lease, config: RunConfig, progress: Progress) -> Post:
    """Where the calls of a run go that works through its queue."""
    scratch = place.home.root / "scratch" / place.run
    return Post(
        queue=RunQueue(place.store, lease, lease.owner, config.work.lease),
        weights=Published(shared_folder(config, place.home), place.run, scratch),
        lease=config.work.lease,
        say=progress.say,
    )
