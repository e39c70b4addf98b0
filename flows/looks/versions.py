"""A stored version by its name, RUN@ROUND, and parts that stand where that round ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flows.assemble import Parts
from flows.depot import Depot
from flows.engines import alone
from flows.errors import Refusal
from flows.home import Home
from flows.live import Assemble, Place, repeat_exactly
from flows.progress import Progress
from flows.restore import replay_round
from flows.stages import saved
from pipeline.config import RunConfig, recorded
from pipeline.files.checkpoint import restore_checkpoint
from pipeline.types import Version
from store import points, questions
from store.chain import owner_of
from store.database import Store


@dataclass(frozen=True, slots=True)
class Stored:
    """The solver's weights at the end of a round.

    name   as it was asked for
    run    the run whose rows tell the round: a fork's parent for a round that was inherited
    """

    name: str
    run: str
    round: int
    version: Version
    config: RunConfig


def find_version(store: Store, name: str) -> Stored:
    """The version that RUN@ROUND names. Raises Refusal, or Unknown for the run."""
    run, at, number = name.rpartition("@")
    if not at or not run or not number.isdecimal():
        raise Refusal(f"{name!r} names no version: expected RUN@ROUND, such as last@0")
    round, asked = int(number), questions.resolve(store, run)
    owner = store.read(lambda session: owner_of(session, asked, round))
    found = {v.line: v for v in points.versions_at(store, owner, round)}
    if "solver" not in found:
        raise Refusal(
            f"run {asked} has no round {round} that was finished",
            remedy=f"`coclimb rounds {asked}` lists them",
        )
    config = str(questions.run_facts(store, owner)["config"])
    return Stored(name, owner, round, found["solver"], recorded(config))


def stand_at(
    store: Store, home: Home, wanted: Stored, assembled: Assemble, progress: Progress
) -> Parts:
    """Parts that stand where the round ended: its checkpoint, or an earlier one and its steps.

    Where a checkpoint was pruned, the newest kept before it is restored, or the base loaded, and
    the steps between are taken again from the store. Nothing is written. Raises Refusal where the
    weights are then not those that the round recorded, Diverged for a step that comes out
    otherwise.
    """
    place = Place(store, home, wanted.run)
    repeat_exactly()
    parts = assembled(alone(wanted.config))
    begun = _forked_at(store, wanted.run)
    listed = [
        p for p in points.checkpoints(store, wanted.run) if (begun or 0) <= p.round <= wanted.round
    ]
    after = begun or 0
    if listed:
        point = max(listed, key=lambda p: p.round)
        depot = Depot(store, home, home.checkpoints(wanted.run), progress.say)
        restore_checkpoint(depot.fetch(point), saved(parts), point.manifest_digest)
        parts.learner.publish()
        after = point.round
    elif begun is not None:
        raise Refusal(f"run {wanted.run}: the checkpoint it was forked from is gone")
    for round in range(after + 1, wanted.round + 1):
        replay_round(place, parts, round, progress)
    _check(parts, wanted)
    return parts


def _forked_at(store: Store, run: str) -> int | None:
    row = next(row for row in questions.runs(store) if row["id"] == run)
    return cast("int | None", row["parent_round"])


def _check(parts: Parts, wanted: Stored) -> None:
    now = parts.learner.versions()["solver"].checksum
    if now != wanted.version.checksum:
        raise Refusal(
            f"{wanted.name}: the weights restored are not those that the round recorded "
            f"({now[:12]} now, {wanted.version.checksum[:12]} then), so the base, the machine or "
            "the libraries have changed",
            remedy="go on where they are as they were, or name a round whose checkpoint is kept",
        )
