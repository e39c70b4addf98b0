"""A run that is alive in this process: its parts, its store, and the right to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from flows.assemble import Parts, assemble
from flows.depot import Depot
from flows.home import Home
from flows.progress import Progress, Quiet
from pipeline.config import RunConfig, recorded
from pipeline.engine.parity import EngineMismatch
from pipeline.engine.queued import Post
from pipeline.files.published import Published
from pipeline.files.shared import SharedFolder
from pipeline.learning.exactly import repeat_exactly as repeat_exactly
from store import questions
from store.database import Lease, Store
from store.parities import record_parities
from store.work import RunQueue, owner_name

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

    @cached_property
    def depot(self) -> Depot:
        """Where its checkpoints, and those of the runs it stems from, are."""
        return Depot(self.store, self.home, self.home.checkpoints(self.run), self.progress.say)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's rows and files are."""

    store: Store
    home: Home
    run: str


def come_alive(
    place: Place, lease: Lease, progress: Progress, assembled: Assemble = assemble
) -> Live:
    """Build a run's parts from the configuration that its row holds; its weights are the base's."""
    repeat_exactly()
    facts = questions.run_facts(place.store, place.run)
    config = recorded(str(facts["config"]))
    row = next(row for row in questions.runs(place.store) if row["id"] == place.run)
    post = _post(place, lease, config, progress) if config.work.queue else None
    try:
        parts = assembled(config)
    except EngineMismatch as error:  # no parts are there that could tell of it
        record_parities(place.store, lease, [error.parity])
        raise
    if post is not None:
        parts.outlet.open(post)
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


def published(place: Place | Live, config: RunConfig) -> Published:
    """The weights that a run's workers load. Raises Unanswered as `SharedFolder` does."""
    scratch = place.home.root / "scratch" / place.run
    return Published(shared_folder(config, place.home), place.run, scratch)


def _post(place: Place, lease: Lease, config: RunConfig, progress: Progress) -> Post:
    """Where the calls of a run go that works through its queue."""
    return Post(
        queue=RunQueue(place.store, lease, owner_name(lease), config.work.lease),
        weights=published(place, config),
        lease=config.work.lease,
        say=progress.say,
    )
