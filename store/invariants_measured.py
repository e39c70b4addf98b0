"""Invariants of what was measured and judged: I8, no fault became a number; I13, counts close.

The store knows no reward and so not which meters one needs. What the rows alone tell is checked:
a run's judged attempts were read by the same meters, and one that was measured earns no reward only
for a failed reading of a meter that failed at none which earned one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Double, and_, func, or_, select

from store.cases import Case, Violation, on
from store.schema import (
    CreditRow,
    EvidenceRow,
    GroupRow,
    JudgementRow,
    ProbeRow,
    ProposalRow,
    ReadingRow,
    RolloutRow,
    UpdateRow,
)

_LARGEST = sys.float_info.max
_READABLE = ("measured", "malformed")  # the others may never earn a reward


def check_i8(case: Case) -> Iterator[Violation]:
    """What could not be measured earned nothing, what could was judged, and every stored figure is
    a finite number."""
    untold = (
        select(JudgementRow.rollout_id, EvidenceRow.status)
        .join(
            EvidenceRow,
            _its_evidence(),
        )
        .where(JudgementRow.run_id == case.run, JudgementRow.reward.is_not(None))
        .where(EvidenceRow.status.not_in(_READABLE))
    )
    for name, status in case.session.execute(untold):
        yield case.violation("I8", f"rollout {name}", f"earned a reward though it is {status}")
    yield from _left_out(case)
    for table in (JudgementRow, UpdateRow, ProbeRow, EvidenceRow):
        for column in table.__table__.columns:
            if isinstance(column.type, Double):
                bad = or_(column != column, column > _LARGEST, column < -_LARGEST)
                query = select(func.count()).select_from(table).where(bad)
                count = case.session.scalar(query.where(table.run_id == case.run))
                if count:
                    yield case.violation(
                        "I8", f"{table.__tablename__}.{column.name}", f"{count} not finite"
                    )


def _left_out(case: Case) -> Iterator[Violation]:
    """Attempts that were measured and have no seat, though no failed reading tells why.

    A reward needs the same meters all along a run: one that failed where an attempt was judged is
    none of them.
    """
    failed = (
        select(ReadingRow.source)
        .join(JudgementRow, on(JudgementRow, ReadingRow, ("rollout_id", "rollout_id")))
        .where(ReadingRow.run_id == case.run, ReadingRow.status.not_in(_READABLE))
    )
    needless = set(case.session.scalars(failed.where(JudgementRow.seat.is_not(None)).distinct()))
    why = and_(
        on(ReadingRow, JudgementRow, ("rollout_id", "rollout_id")),
        ReadingRow.status.not_in(_READABLE),
        ReadingRow.source.not_in(needless),
    )
    unexplained = (
        select(JudgementRow.rollout_id)
        .join(EvidenceRow, _its_evidence())
        .where(JudgementRow.run_id == case.run, JudgementRow.seat.is_(None))
        .where(EvidenceRow.status == "measured", ~select(ReadingRow.source).where(why).exists())
    )
    for name in case.session.scalars(unexplained):
        yield case.violation("I8", f"rollout {name}", "is measured, and was left out without cause")


def _its_evidence() -> ColumnElement[bool]:
    """The evidence that a judgement was made of."""
    return and_(
        on(EvidenceRow, JudgementRow, ("rollout_id", "rollout_id")),
        EvidenceRow.version == JudgementRow.evidence_version,
    )


def check_i13(case: Case) -> Iterator[Violation]:
    """Planned = done: each group has its rollouts, each attempt its evidence and what every
    meter read of it, each rollout its judgement, each proposal its verdict."""
    size = select(GroupRow.id, GroupRow.size).where(GroupRow.run_id == case.run)
    expected = {row.id: row.size for row in case.session.execute(size)}
    tried = select(GroupRow.id).where(GroupRow.run_id == case.run, GroupRow.role != "generator")
    attempts = set(case.session.scalars(tried))
    credited = set(
        case.session.scalars(select(CreditRow.group_id).where(CreditRow.run_id == case.run))
    )
    proposed = GroupRow.made_by == "propose"
    counts = {
        "rollouts": (_count(case, None), expected.keys()),
        "judgements": (_count(case, JudgementRow), credited),
        "evidence": (_count(case, EvidenceRow), credited & attempts),
        "verdicts": (_count(case, ProposalRow, ProposalRow.phase == "judged"), credited - attempts),
        "first verdicts": (
            _count(case, ProposalRow, ProposalRow.phase == "proposed"),
            set(
                case.session.scalars(
                    select(GroupRow.id).where(GroupRow.run_id == case.run, proposed)
                )
            ),
        ),
    }
    for what, (counted, groups) in counts.items():
        yield from _uneven(case, what, counted, {name: expected[name] for name in groups})
    yield from _readings_lost(case)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A judged attempt: its group, and the meters that read it."""

    group: str
    unmeasured: bool  # nothing was, for want of a reference
    sources: set[str] = field(default_factory=set)


def _readings_lost(case: Case) -> Iterator[Violation]:
    """Attempts without the reading of a meter that read others: a run's meters do not change.

    One that nothing was measured of, for want of a reference, need have none; what its siblings
    have it must have.
    """
    attempts = _judged_attempts(case)
    every: set[str] = set()
    of_group: dict[str, set[str]] = {}
    for one in attempts.values():
        every |= one.sources
        of_group.setdefault(one.group, set()).update(one.sources)
    for name, one in attempts.items():
        planned = of_group[one.group] if one.unmeasured else every
        if lost := sorted(planned - one.sources):
            yield case.violation("I13", f"rollout {name}", f"has no reading of {', '.join(lost)}")


def _judged_attempts(case: Case) -> dict[str, _Attempt]:
    """Each judged attempt by its rollout's id; {} in a run without meters."""
    readings = select(ReadingRow.rollout_id, ReadingRow.source).where(ReadingRow.run_id == case.run)
    if case.session.execute(readings.limit(1)).first() is None:
        return {}
    judged = (
        select(RolloutRow.id, RolloutRow.group_id, EvidenceRow.status)
        .join(JudgementRow, on(JudgementRow, RolloutRow, ("rollout_id", "id")))
        .join(EvidenceRow, _its_evidence())
        .where(RolloutRow.run_id == case.run)
        .order_by(RolloutRow.id)
    )
    found = {
        name: _Attempt(group, status == "not_measured")
        for name, group, status in case.session.execute(judged)
    }
    for name, source in case.session.execute(readings):
        if name in found:
            found[name].sources.add(source)
    return found


def _uneven(
    case: Case, what: str, counted: dict[str, int], planned: dict[str, int]
) -> Iterator[Violation]:
    for name in sorted(planned.keys() | counted.keys()):
        if planned.get(name, 0) != counted.get(name, 0):
            told = f"{counted.get(name, 0)} {what}, {planned.get(name, 0)} planned"
            yield case.violation("I13", f"group {name}", told)


def _count(
    case: Case,
    table: type[JudgementRow] | type[EvidenceRow] | type[ProposalRow] | None,
    *only: ColumnElement[bool],
) -> dict[str, int]:
    """How many rollouts of each group have a row in the table; None counts the rollouts."""
    query = select(RolloutRow.group_id, func.count(RolloutRow.id.distinct()))
    if table is not None:
        query = query.join(table, on(table, RolloutRow, ("rollout_id", "id")))
    query = query.where(RolloutRow.run_id == case.run, *only).group_by(RolloutRow.group_id)
    return {row[0]: row[1] for row in case.session.execute(query)}
