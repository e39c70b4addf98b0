"""Checkpoints as rows: each names a folder whose files were verified before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.faults import fault
from pipeline.types import Line, Version
from store.chain import ancestors, within
from store.database import Lease, Store, question
from store.errors import Conflict
from store.rows import add, as_row
from store.schema import CheckpointRow, RunRow
from store.stages import guard
from store.writing import Made, write_versions


@dataclass(frozen=True, slots=True)
class Point:
    """A checkpoint's row: the run and round that wrote it, its folder, and what is in it."""

    run: str
    round: int
    folder: str
    manifest_digest: str
    versions: tuple[Version, ...]


def record_checkpoint(store: Store, lease: Lease, point: Point) -> None:
    """Name a verified folder as the round's checkpoint, and record the versions in it.

    point.folder  as `checkpoints` will tell it; best relative to the home
    """

    def work(session: Session) -> None:
        key = {"run_id": lease.run, "round": point.round}
        versions = [{**as_row(one), "parents": list(one.parents)} for one in point.versions]
        told = {"folder": point.folder, "manifest_digest": point.manifest_digest}
        found = session.get(CheckpointRow, (lease.run, point.round))
        if found is not None:
            if (found.folder, found.manifest_digest) != tuple(told.values()):
                raise Conflict(f"round {point.round} of run {lease.run} has another checkpoint")
            return
        guard(session, lease.run, point.round, "checkpoint", 1)
        write_versions(session, Made(lease.run, "checkpoint", point.round), point.versions)
        mine = select(func.max(CheckpointRow.sequence)).where(CheckpointRow.run_id == lease.run)
        more = {"sequence": (session.scalar(mine) or 0) + 1, "state": "kept"}
        stamp = {"epoch": lease.epoch, "at": datetime.now(UTC)}
        add(session, CheckpointRow, [{**key, **told, "versions": versions, **more, **stamp}])

    store.write(lease, work)
    fault("ck.row")


@question
def checkpoints(store: Store, run: str) -> list[Point]:
    """Checkpoints not pruned, newest first by the order they were recorded; a fork's own ones
    before those it inherited."""
    with store.reading() as session:
        spans = ancestors(session, run)
        order = {span.run: depth for depth, span in enumerate(spans)}
        rows = session.scalars(
            select(CheckpointRow).where(
                within(spans, CheckpointRow.run_id, CheckpointRow.round),
                CheckpointRow.state == "kept",
            )
        ).all()
        return [point_of(row) for row in sorted(rows, key=lambda r: (order[r.run_id], -r.sequence))]


@question
def versions_at(store: Store, run: str, round: int) -> tuple[Version, ...]:
    """The versions that a round of this run's own ended with, whether its checkpoint is kept or
    pruned; () where none was written."""
    with store.reading() as session:
        row = session.get(CheckpointRow, (run, round))
        return () if row is None else versions_in(row)


def mark_pruned(store: Store, lease: Lease, folder: str) -> None:
    """Say that a checkpoint's files will go; called before any of them does."""

    def work(session: Session) -> None:
        rows = select(CheckpointRow).where(
            CheckpointRow.run_id == lease.run, CheckpointRow.folder == folder
        )
        for row in session.scalars(rows):
            row.state = "pruned"

    store.write(lease, work)


@question
def fork_folders(store: Store, run: str) -> set[str]:
    """Folders of this run's checkpoints that forks begin from; pruning must leave them."""
    with store.reading() as session:
        joined = (
            select(CheckpointRow.folder)
            .join(RunRow, RunRow.parent_run_id == CheckpointRow.run_id)
            .where(CheckpointRow.run_id == run, CheckpointRow.round == RunRow.parent_round)
        )
        return set(session.scalars(joined))


def point_of(row: CheckpointRow) -> Point:
    return Point(row.run_id, row.round, row.folder, row.manifest_digest, versions_in(row))


def versions_in(row: CheckpointRow) -> tuple[Version, ...]:
    """The versions whose weights the checkpoint holds."""
    listed = cast("Sequence[dict[str, str | int | list[str]]]", row.versions)
    return tuple(
        Version(
            id=str(one["id"]),
            line=cast(Line, one["line"]),
            step=cast(int, one["step"]),
            parents=tuple(cast("list[str]", one["parents"])),
            checksum=str(one["checksum"]),
        )
        for one in listed
    )
