"""What must hold of readings: none is lost, and a failed one tells why an attempt was left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text
from store_story import step, tell

from pipeline.types import Credited, Evidence, Judged, Reading, StepRecord
from store.database import Store
from store.invariants import verify

RULE = Reading("rule", "math-verify 1", "measured", (1.0, 1.0, 0.0))
JUDGED = Reading("judge", "proxy@0", "measured", (0.75,))
UNJUDGED = Reading("judge", "proxy@0", "timeout")
SLOW = Reading("rubric", "proxy@0", "timeout")  # no reward needs it
FIRST, SECOND, THIRD = (f"r01-s0001-n{n}" for n in range(3))


def with_readings(one: Evidence, judge: Reading) -> Evidence:
    return replace(one, readings=(RULE, judge, SLOW))


def read(credited: Credited, seat: int) -> Credited:
    """The first group's measured attempt is unjudged and left out; the third has no reference."""
    judged = credited.judged
    if judged.group.role == "generator":
        return credited
    bad, good = judged.evidence
    assert isinstance(bad, Evidence)
    assert isinstance(good, Evidence)
    if seat == 2:
        none = replace(good, status="not_measured", reference_logprobs=(), baseline_logprobs=())
        return Credited(Judged(judged.group, (none, none), (), ()), (), ())
    if seat == 0:
        evidence = (with_readings(bad, JUDGED), with_readings(good, UNJUDGED))
        return Credited(Judged(judged.group, evidence, (), ()), (), ())
    evidence = (with_readings(bad, JUDGED), with_readings(good, JUDGED))
    return replace(credited, judged=replace(judged, evidence=evidence))


def read_step(round: int, index: int) -> StepRecord:
    made = step(round, index)
    return replace(made, credited=tuple(read(one, seat) for seat, one in enumerate(made.credited)))


@pytest.fixture
def metered(store: Store) -> Store:
    """A store with a run whose attempts three meters read."""
    tell(store, made=read_step)
    return store


def broken(store: Store) -> set[str]:
    """What is broken, by invariant and place, but for the digests, which any change breaks."""
    found = verify(store)["violations"]
    assert isinstance(found, list)
    told = [f"{one['invariant']} {one['place']}" for one in found if isinstance(one, dict)]
    assert not told or any(one.startswith("I6") for one in told)
    return {one for one in told if not one.startswith("I6")}


def test_attempts_left_out_for_a_failed_reading_or_without_a_reference_break_nothing(
    metered: Store,
) -> None:
    assert verify(metered)["violations"] == []


# what was changed behind the store's back, and what must be noticed beside the digests
DAMAGE = {
    f"DELETE FROM reading WHERE rollout_id = '{SECOND}-g1' AND source = 'judge'": {
        f"I13 run runa, rollout {SECOND}-g1"
    },
    f"DELETE FROM reading WHERE rollout_id LIKE '{SECOND}-%'": {
        f"I13 run runa, rollout {SECOND}-g0",
        f"I13 run runa, rollout {SECOND}-g1",
    },
    f"UPDATE reading SET source = 'vote' WHERE rollout_id = '{SECOND}-g1' AND source = 'rule'": {
        f"I13 run runa, rollout r{round:02d}-s{number:04d}-n{n}-g{g}"
        for round, number in ((1, 1), (1, 2), (2, 3), (2, 4))
        for n in (0, 1)
        for g in (0, 1)
    },
    f"UPDATE reading SET rollout_id = '{THIRD}-g0' WHERE rollout_id = '{FIRST}-g0'": {
        f"I13 run runa, rollout {FIRST}-g0",
        f"I13 run runa, rollout {THIRD}-g1",
    },
    f"UPDATE reading SET status = 'measured' WHERE rollout_id = '{FIRST}-g1'": {
        f"I8 run runa, rollout {FIRST}-g1"
    },
    f"UPDATE judgement SET seat = NULL, reward = NULL WHERE rollout_id = '{SECOND}-g1'": {
        f"I8 run runa, rollout {SECOND}-g1"
    },
    f"UPDATE reading SET status = 'timeout' WHERE rollout_id = '{SECOND}-g1'": {
        f"I8 run runa, rollout r{round:02d}-s{number:04d}-n0-g1"
        for round, number in ((1, 1), (1, 2), (2, 3), (2, 4))
    },
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_reading_changed_behind_the_store_is_found(metered: Store, statement: str) -> None:
    with metered.writing(None) as session:
        session.execute(text(statement))
    assert broken(metered) == DAMAGE[statement]
