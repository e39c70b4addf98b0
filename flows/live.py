"""A run that is alive in this process: its parts, its store, and the right to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from flows.assemble import Parts, assemble
from flows.home import Home
from flows.progress import Progress, Quiet
from pipeline.config import RunConfig, recorded
from pipeline.exactly import repeat_exactly as repeat_exactly
from store import questions
from store.database import Lease, Store

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


def come_alive(
    place: Place, lease: Lease, progress: Progress, assembled: Assemble = assemble
) -> Live:
    """Build a run's parts from the configuration that its row holds; its weights are the base's."""
    repeat_exactly()
    facts = questions.run_facts(place.store, place.run)
    config = recorded(str(facts["config"]))
    row = next(row for row in questions.runs(place.store) if row["id"] == place.run)
    return Live(
        store=place.store,
        home=place.home,
        run=place.run,
        lease=lease,
        config=config,
        rounds=cast(int, row["rounds_asked"]),
        parts=assembled(config),
        parent_round=cast("int | None", row["parent_round"]),
        progress=progress,
    )
