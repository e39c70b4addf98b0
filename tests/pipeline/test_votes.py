"""Votes: the worked examples of their sources, and what a vote must not depend on."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.answers import normalise
from pipeline.text.votes import classes, counts, cross_label, majority, mode

ANSWERS = st.lists(st.sampled_from(["7", " 7.", "9", "", "nine"]), min_size=1, max_size=8)
A, B = ["7", "7", "9", "7"], ["9", "9", "9", "7"]


def test_answers_that_say_the_same_are_one_class_named_by_its_first() -> None:
    assert classes(["Nine.", "7", "nine", "", "\uff17", "."]) == (0, 1, 0, None, 1, None)
    assert classes([]) == ()


def test_an_empty_answer_counts_as_an_attempt_and_never_votes() -> None:
    assert counts(["", "7", "", "9", "7."]) == {1: 2, 3: 1}
    assert majority(["", "7", "", "9", "7."]) == (1, 2 / 5)
    assert mode(["", "", "", "7"]) == "7"
    assert mode(["", "."]) is None


def test_of_equal_votes_the_class_seen_first_wins() -> None:
    assert mode(["9", "7", "7", "9"]) == "9"
    assert majority(["", "b", "a", "a", "b"]) == (1, 2 / 5)


def test_the_majority_votes_by_normalised_text_and_the_empty_abstain() -> None:
    assert majority(["Six", "seven", "six.", "", ""]) == (0, 2 / 5)
    assert majority(["", " ", "..."]) is None
    assert majority([]) is None


def test_each_view_is_labelled_by_the_other_ones_mode() -> None:
    # modes 7 and 9: of A only the 9 is right, of B only the 7
    assert cross_label(A, B) == ((0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def test_a_view_that_says_nothing_labels_nothing() -> None:
    assert cross_label(["", "7"], ["", ""]) == (None, (0.0, 0.0))


def test_nine_votes_of_a_solver_at_six_tenths_are_right_in_seven_tenths() -> None:
    # every pattern of nine right or wrong answers, weighed by its probability
    right = sum(
        0.6 ** sum(pattern) * 0.4 ** (9 - sum(pattern))
        for pattern in product((True, False), repeat=9)
        if mode(["right" if hit else "wrong" for hit in pattern]) == "right"
    )
    assert right == pytest.approx(0.733432, abs=1e-6)


@given(ANSWERS, st.randoms())
def test_votes_do_not_depend_on_seats(answers: list[str], rng) -> None:
    seated = list(answers)
    rng.shuffle(seated)
    by_text = [{normalise(a[i]): n for i, n in counts(a).items()} for a in (answers, seated)]
    assert by_text[0] == by_text[1]
    assert sum(counts(answers).values()) == sum(map(bool, answers))


@given(ANSWERS, ANSWERS)
def test_swapping_the_views_swaps_the_labels(a: list[str], b: list[str]):
    assert cross_label(b, a) == cross_label(a, b)[::-1]
