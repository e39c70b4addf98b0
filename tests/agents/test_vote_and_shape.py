"""Meters that need neither a reference nor a model."""

from __future__ import annotations

import pytest

from agents.verifiers.shape import Shape
from agents.verifiers.vote import VERSION, Vote
from pipeline.ports import Meter
from pipeline.types import Reading
from tests.agents.meters import group, prompts, said


def voted(*values: float) -> Reading:
    return Reading("vote", VERSION, "measured", values)


def test_an_answer_is_told_whether_its_group_agrees_and_by_what_shares() -> None:
    # five attempts: two say 7, one says 9, one is malformed, one says nothing
    read = Vote().read([group(said("9"), said("7."), said(" 7"), "seven", said("."))])
    assert read[0][:3] == (voted(0.0, 0.2, 0.4), voted(1.0, 0.4, 0.4), voted(1.0, 0.4, 0.4))
    assert [(one.status, one.values) for one in read[0][3:]] == [("malformed", ())] * 2
    assert [one.detail for one in read[0][3:]] == ["missing_reasoning", "the answer says nothing"]


def test_of_equal_votes_the_answer_seen_first_wins() -> None:
    [row] = Vote().read([group(said("9"), said("7"), said("7"), said("9"))])
    assert [one.values[0] for one in row] == [1.0, 0.0, 0.0, 1.0]


def test_a_lone_attempt_agrees_with_itself_and_a_silent_group_with_nobody() -> None:
    lone, silent = Vote().read([group(said("7")), group("a", "b")])
    assert lone == (voted(1.0, 1.0, 1.0),)
    assert [one.status for one in silent] == ["malformed", "malformed"]


def test_readings_follow_their_rollouts_when_siblings_change_seats() -> None:
    texts = [said("7"), said("9"), said("7"), "x"]
    seats = [2, 3, 0, 1]
    [one], [other] = Vote().read([group(*texts)]), Vote().read([group(*(texts[s] for s in seats))])
    assert other == tuple(one[s] for s in seats)


def test_a_completion_is_measured_in_tokens_of_each_of_its_parts() -> None:
    # bytes are tokens and tags are whole: 4 tags, "so so so so", "42" and the end
    [row] = Shape(prompts()).read([group(said("42", "so so so so"), "abab")])
    assert row[0].values[:3] == (18.0, 11.0, 2.0)
    # of 15 runs of four tokens "so s", "o so" and " so " come back: 2 + 1 + 1 + 1
    assert row[0].values[3] == pytest.approx(5 / 15)
    assert row[1] == Reading("shape", row[0].version, "measured", (5.0, 0.0, 0.0, 0.0))


def test_nothing_written_is_measured_too() -> None:
    [row] = Shape(prompts()).read([group("")])
    assert row[0].values == (1.0, 0.0, 0.0, 0.0)  # the end token


def test_both_fill_the_port_under_their_names() -> None:
    meters: list[Meter] = [Vote(), Shape(prompts())]
    assert [meter.source for meter in meters] == ["vote", "shape"]
    assert [meter.read([]) for meter in meters] == [[], []]
