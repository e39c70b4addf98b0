"""What meters read of attempts, as plain rows."""

from __future__ import annotations

import math

from sqlalchemy import and_, select

from store.chain import ancestors
from store.database import Store, question
from store.questions import ALL, Answer, Filter, of_rollouts
from store.schema import GroupRow, ReadingRow, RolloutRow


@question
def readings_of(store: Store, run: str, only: Filter = ALL) -> list[Answer]:
    """A row per reading, newest round first: all its values, how many and their mean.

    `only` narrows by round, task, role and form, as of rollouts.
    """
    rollout = and_(RolloutRow.run_id == GroupRow.run_id, RolloutRow.group_id == GroupRow.id)
    reading = and_(ReadingRow.run_id == RolloutRow.run_id, ReadingRow.rollout_id == RolloutRow.id)
    with store.reading() as session:
        query = (
            select(GroupRow.round, GroupRow.task_id, ReadingRow)
            .select_from(GroupRow)
            .join(RolloutRow, rollout)
            .join(ReadingRow, reading)
            .where(*of_rollouts(ancestors(session, run), only))
            .order_by(GroupRow.round.desc(), GroupRow.id, RolloutRow.position, ReadingRow.position)
            .limit(only.limit)
        )
        return [_answer(round, task, row) for round, task, row in session.execute(query)]


def _answer(round: int, task: str, row: ReadingRow) -> Answer:
    values = list(row.values)
    return {
        "id": row.rollout_id,
        "round": round,
        "task": task,
        "source": row.source,
        "version": row.version,
        "status": row.status,
        "count": len(values),
        "mean": math.fsum(values) / len(values) if values else None,
        "values": [*values],
        "at": [*row.at],
        "detail": row.detail,
    }
