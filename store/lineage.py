"""Where something came from: a tree of typed nodes from an id back to its beginnings.

task       -> the proposal that wrote it, its parent task
rollout    -> its task, the policy version, the evidence, reward and update it led to
version    -> the update or sync that made it, its parents; behind an update that learned from the
              store the first groups it studied, in the run that holds them
checkpoint -> the versions whose weights it holds
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.chain import Span, ancestors
from store.columns import Base
from store.database import Store, question
from store.errors import Unknown
from store.loads import Name, names_in
from store.points import versions_in
from store.schema import (
    CheckpointRow,
    CreditRow,
    EvidenceRow,
    GroupRow,
    JudgementRow,
    ProposalRow,
    RolloutRow,
    StepRow,
    SyncRow,
    TaskRow,
    UpdateRow,
    VersionRow,
)

T = TypeVar("T", bound=Base)
Fact = str | int | float | bool | None
DEPTH = 8  # nodes from the root; deeper ones are named without being followed
SHOWN = 4  # studied groups of an update that are shown; its facts say how many there were


@dataclass(frozen=True, slots=True)
class Node:
    """One thing of a run's history. `run` is where its row is; facts are plain values."""

    kind: str
    id: str
    run: str
    facts: dict[str, Fact]
    children: tuple[Node, ...] = ()


@question
def lineage(store: Store, run: str, id: str, depth: int = DEPTH) -> Node:
    """The tree behind an id of this run or of the rounds it inherited.

    id  of a task, rollout or version, or "checkpoint@ROUND"; "rollout:ID" says which is meant
        where a task shares its rollout's id. Raises Unknown.
    """
    kind, _, name = id.rpartition(":")
    with store.reading() as session:
        tree = _Tree(session, ancestors(session, run))
        finders = {
            "task": tree.task,
            "rollout": tree.rollout,
            "version": tree.version,
            "checkpoint": tree.checkpoint,
        }
        if kind and kind not in finders:
            raise Unknown(f"{kind!r} has no lineage; use one of {', '.join(finders)}")
        for word, find in finders.items():
            found = find(name, depth) if kind in ("", word) else None
            if found is not None:
                return found
    raise Unknown(f"run {run} has no task, rollout, version or checkpoint {id!r}")


class _Tree:
    """Follows ids through one run's history. Each method returns None for an id no row holds."""

    def __init__(self, session: Session, spans: Sequence[Span]) -> None:
        self._session = session
        self._spans = spans

    def task(self, id: str, depth: int) -> Node | None:
        row = self._task_row(id)
        if row is None:
            return None
        facts: dict[str, Fact] = {
            "question": row.question,
            "reference": row.reference,
            "origin": row.origin,
            "confidence": row.confidence,
            "state": row.state,
            "round": row.made_round,
        }
        return Node("task", id, row.run_id, facts, self._task_children(row, depth))

    def _task_children(self, row: TaskRow, depth: int) -> tuple[Node, ...]:
        if depth <= 1:
            return ()
        proposal = self._proposal(row.proposal_id, depth - 1) if row.proposal_id else None
        parent = self.task(row.parent_id, depth - 1) if row.parent_id else None
        return _present(proposal, parent)

    def _proposal(self, id: str, depth: int) -> Node | None:
        row = self._find(RolloutRow, id)
        if row is None:
            return None
        judged = self._session.get(ProposalRow, (row.run_id, id, "judged"))
        told = judged or self._session.get(ProposalRow, (row.run_id, id, "proposed"))
        facts: dict[str, Fact] = {"form": row.form, "verdict": told.verdict if told else None}
        version = self.version(row.version, depth - 1) if depth > 1 else None
        return Node("proposal", id, row.run_id, facts, _present(version, self._reward(row)))

    def rollout(self, id: str, depth: int) -> Node | None:
        row = self._find(RolloutRow, id)
        if row is None:
            return None
        group = self._session.get_one(GroupRow, (row.run_id, row.group_id))
        facts: dict[str, Fact] = {"role": group.role, "form": row.form, "text": row.text}
        if depth <= 1:
            return Node("rollout", id, row.run_id, facts)
        task, policy = self.task(group.task_id, depth - 1), self.version(row.version, depth - 1)
        evidence = self._evidence(row, depth - 1)
        return Node(
            "rollout", id, row.run_id, facts, _present(task, policy, evidence, self._reward(row))
        )

    def _evidence(self, row: RolloutRow, depth: int) -> Node | None:
        judgement = self._session.get(JudgementRow, (row.run_id, row.id))
        if judgement is None or judgement.evidence_version is None:
            return None
        version = judgement.evidence_version
        found = self._session.get_one(EvidenceRow, (row.run_id, row.id, version))
        facts: dict[str, Fact] = {
            "status": found.status,
            "reference_mean": found.reference_mean,
            "baseline_mean": found.baseline_mean,
        }
        verifier = self.version(version, depth - 1) if depth > 1 else None
        return Node("evidence", row.id, row.run_id, facts, _present(verifier))

    def _reward(self, row: RolloutRow) -> Node | None:
        judgement = self._session.get(JudgementRow, (row.run_id, row.id))
        credit = self._session.get(CreditRow, (row.run_id, row.group_id))
        if judgement is None or credit is None:
            return None
        facts: dict[str, Fact] = {
            "reward": judgement.reward,
            "advantage": judgement.advantage,
            "answer_weight": judgement.answer_weight,
        }
        updates = self._updates(row.run_id, credit.step)
        return Node("reward", row.id, row.run_id, facts, tuple(updates))

    def version(self, id: str, depth: int) -> Node | None:
        row = self._find(VersionRow, id)
        if row is None:
            return None
        facts: dict[str, Fact] = {"line": row.line, "step": row.step, "checksum": row.checksum}
        if depth <= 1:
            return Node("version", id, row.run_id, facts)
        made: list[Node] = []
        if row.made_by == "climb":
            updates = self._updates(row.run_id, row.step, row.line)
            made += [self._taught(one, depth - 1) for one in updates]
        made += self._syncs(row)
        parents = (self.version(one, depth - 1) for one in cast("list[str]", row.parents))
        return Node("version", id, row.run_id, facts, (*made, *_present(*parents)))

    def _updates(self, run: str, step: int, line: str | None = None) -> list[Node]:
        query = select(UpdateRow).where(UpdateRow.run_id == run, UpdateRow.step == step)
        rows = self._session.scalars(query.order_by(UpdateRow.line))
        return [
            Node("update", f"{row.line}@{step}", run, {"step": step, "loss": row.loss})
            for row in rows
            if line in (None, row.line)
        ]

    def _taught(self, update: Node, depth: int) -> Node:
        """The update with what its step studied of the store; as it is where that is nothing."""
        step = self._session.get_one(StepRow, (update.run, update.facts["step"]))
        if not step.studied:
            return update
        names = names_in(step)
        groups = [self._group(name) for name in names[:SHOWN]] if depth > 1 else []
        facts = {**update.facts, "studied": len(names)}
        return replace(update, facts=facts, children=_present(*groups))

    def _group(self, name: Name) -> Node | None:
        """A studied group by its run and id, wherever in the store it is."""
        row = self._session.get(GroupRow, name)
        if row is None:
            return None
        facts: dict[str, Fact] = {"run": row.run_id, "round": row.round, "task": row.task_id}
        return Node("group", row.id, row.run_id, facts)

    def _syncs(self, version: VersionRow) -> list[Node]:
        query = select(SyncRow).where(
            SyncRow.run_id == version.run_id,
            SyncRow.step == version.step,
            SyncRow.after == version.id,
            SyncRow.accepted,
        )
        return [
            Node(
                "sync",
                f"{row.before} -> {row.after}",
                row.run_id,
                {"rule": row.rule, "source": row.source, "alpha": row.alpha, "reason": row.reason},
            )
            for row in self._session.scalars(query)
        ]

    def checkpoint(self, id: str, depth: int) -> Node | None:
        number = id.removeprefix("checkpoint@")
        if number == id or not number.isdecimal():
            return None
        for span in self._spans:
            row = self._session.get(CheckpointRow, (span.run, int(number)))
            if row is not None and (span.upto is None or row.round <= span.upto):
                facts: dict[str, Fact] = {"folder": row.folder, "state": row.state}
                held = (self.version(one.id, depth - 1) for one in versions_in(row))
                return Node("checkpoint", id, span.run, facts, _present(*held))
        return None

    def _find(self, table: type[T], name: str) -> T | None:
        """The row of this id in the run itself, else in the nearest ancestor."""
        for span in self._spans:
            row = self._session.get(table, (span.run, name))
            if row is not None:
                return row
        return None

    def _task_row(self, id: str) -> TaskRow | None:
        for span in self._spans:
            for state in ("admitted", "seed", "attempted", "candidate"):
                row = self._session.get(TaskRow, (span.run, id, state))
                if row is not None:
                    return row
        return None


def _present(*nodes: Node | None) -> tuple[Node, ...]:
    return tuple(node for node in nodes if node is not None)
