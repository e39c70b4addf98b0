"""What later rounds may read of earlier ones: committed rows alone, and never any truth."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import select

from pipeline.types import Remembered
from store.chain import ancestors, within
from store.database import Store, question
from store.loads import task_of
from store.schema import ProposalRow, TaskRow


@question
def memory(
    store: Store, run: str, upto_round: int, stand_in: Literal["beats", "agreement"] = "beats"
) -> list[Remembered]:
    """Admitted proposals and what solvers made of each, oldest first, inherited rounds included.

    stand_in  the share that stands for success where no rule could tell `solved`
    """
    with store.reading() as session:
        spans = ancestors(session, run)
        joined = (
            select(TaskRow, ProposalRow)
            .join(
                ProposalRow,
                (ProposalRow.run_id == TaskRow.run_id)
                & (ProposalRow.rollout_id == TaskRow.proposal_id),
            )
            .where(
                within(spans, TaskRow.run_id, TaskRow.made_round, upto_round),
                TaskRow.state == "admitted",
                ProposalRow.phase == "judged",
                ProposalRow.verdict == "admitted",
            )
            .order_by(TaskRow.made_round, TaskRow.made_step, TaskRow.position)
        )
        found = []
        for task, proposal in session.execute(joined):
            told = proposal.beats if stand_in == "beats" else proposal.agreement
            success = told if proposal.solved is None else proposal.solved
            if success is not None:
                found.append(Remembered(task_of(task), success, proposal.attempts))
        return found


@question
def seen_questions(store: Store, run: str, upto_round: int) -> list[str]:
    """Questions of every proposal that passed the filters so far, oldest first."""
    with store.reading() as session:
        spans = ancestors(session, run)
        query = (
            select(TaskRow.question_raw)
            .where(
                within(spans, TaskRow.run_id, TaskRow.made_round, upto_round),
                TaskRow.state == "candidate",
            )
            .order_by(TaskRow.made_round, TaskRow.position)
        )
        return list(session.scalars(query))
