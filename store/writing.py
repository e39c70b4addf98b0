"""How tasks, groups and versions find their rows, inside one writing transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.faults import fault
from pipeline.types import Group, SyncRecord, Task, Version
from store.chain import Span, ancestors, within
from store.digests import Digests
from store.errors import Conflict, Unknown
from store.loads import task_of
from store.rows import Where, add, group_row, rollout_rows, task_row, version_row
from store.schema import GroupRow, RolloutRow, TaskRow, VersionRow

_PREFERENCE = {"admitted": 0, "seed": 1, "candidate": 2, "attempted": 3}


@dataclass(frozen=True, slots=True)
class Made:
    """Where rows come from: a run, the stage that records them, its round and step."""

    run: str
    stage: str
    round: int
    step: int | None = None


def write_groups(session: Session, made: Made, groups: Sequence[Group], digests: Digests) -> None:
    """Insert the groups that are not there, with their rollouts and unseen attempted tasks.

    digests: of each group by its id. Raises Conflict where one is recorded with other content.
    """
    found = select(GroupRow.id, GroupRow.digest).where(
        GroupRow.run_id == made.run, GroupRow.id.in_([group.id for group in groups])
    )
    there = {row.id: row.digest for row in session.execute(found)}
    fresh = []
    for position, group in enumerate(groups):
        if group.id not in there:
            fresh.append((position, group))
        elif there[group.id] != digests[group.id]:
            raise Conflict(f"group {group.id} of run {made.run} is recorded with other content")
    check_versions(session, made.run, (r.version for _, g in fresh for r in g.rollouts))
    places = _place_tasks(session, made, [group for _, group in fresh])
    rows = []
    for position, group in fresh:
        place = (made.stage, made.round, position)
        row = group_row(made.run, group, places[group.task], place)
        rows.append({**row, "digest": digests[group.id]})
    add(session, GroupRow, rows)
    add(session, RolloutRow, (row for _, group in fresh for row in rollout_rows(made.run, group)))
    fault("roll.row")


def _place_tasks(session: Session, made: Made, groups: Sequence[Group]) -> dict[Task, Where]:
    """The row that holds each group's task, in the run or its ancestors.

    An attempted task that no row holds is inserted; a parent shown to the generator must exist.
    """
    spans = ancestors(session, made.run)
    wanted = {group.task.id for group in groups}
    query = select(TaskRow).where(
        within(spans, TaskRow.run_id, TaskRow.made_round), TaskRow.id.in_(wanted)
    )
    order = {span.run: depth for depth, span in enumerate(spans)}
    rows = sorted(session.scalars(query), key=lambda r: (order[r.run_id], _PREFERENCE[r.state]))
    places: dict[Task, Where] = {}
    for row in rows:
        places.setdefault(task_of(row), (row.run_id, row.state))
    unseen = []
    for position, group in enumerate(groups):
        if group.task in places:
            continue
        if group.role == "generator":
            raise Unknown(f"group {group.id} shows the parent {group.task.id}, which no row holds")
        place = (made.round, made.step, position)
        unseen.append(task_row(made.run, group.task, "attempted", place))
        places[group.task] = (made.run, "attempted")
    add(session, TaskRow, unseen)
    return places


def check_versions(session: Session, run: str, names: Iterable[str]) -> None:
    """Raise Unknown for a version that no step, sync or checkpoint of the history recorded."""
    wanted = {name for name in names if name}
    spans = ancestors(session, run)
    missing = wanted - known_versions(session, spans, wanted)
    if missing:
        raise Unknown(
            f"run {run}: no row holds the version {min(missing)!r}; a checkpoint or an earlier "
            "step must record it before a rollout or measurement names it"
        )


def known_versions(session: Session, spans: Sequence[Span], names: Iterable[str]) -> set[str]:
    query = select(VersionRow.id).where(
        within(spans, VersionRow.run_id, VersionRow.made_round), VersionRow.id.in_(set(names))
    )
    return set(session.scalars(query))


def write_versions(session: Session, made: Made, versions: Sequence[Version]) -> None:
    """Record versions; one that is there must agree, where both tell a checksum in it too."""
    fresh = []
    for position, version in enumerate(versions):
        row = session.get(VersionRow, (made.run, version.id))
        if row is None:
            place = (made.round, made.step, position)
            fresh.append(version_row(made.run, version, made.stage, place))
            continue
        sums = {row.checksum, version.checksum} - {""}
        if (row.line, row.step) != (version.line, version.step) or len(sums) > 1:
            raise Conflict(f"version {version.id} of run {made.run} is recorded otherwise")
    add(session, VersionRow, fresh)


def write_synced_versions(session: Session, made: Made, syncs: Sequence[SyncRecord]) -> None:
    """Record the proxy versions that syncs made, with the versions they were made from."""
    spans = ancestors(session, made.run)
    for position, sync in enumerate(syncs):
        check_versions(session, made.run, (sync.source, sync.before))
        if sync.accepted and not known_versions(session, spans, (sync.after,)):
            version = Version(sync.after, "proxy", sync.step, (sync.before, sync.source))
            place = (made.round, made.step, position)
            add(session, VersionRow, [version_row(made.run, version, "sync", place)])
