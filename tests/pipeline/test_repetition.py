"""How much of a text repeats itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.repetition import repeated_share


def test_runs_that_occurred_before_are_counted_against_all_runs() -> None:
    # 1234 2341 3412 4123 1234: the last of five stood before
    assert repeated_share([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2)
    # one token ten times: seven runs, six of them old
    assert repeated_share([5] * 10) == pytest.approx(6 / 7)


def test_a_text_without_a_whole_run_repeats_nothing() -> None:
    assert [repeated_share(tokens) for tokens in ([], [1], [1, 1, 1], [1, 1, 1, 1])] == [0.0] * 4


def test_runs_have_a_length() -> None:
    with pytest.raises(ValueError, match="runs of 0 tokens"):
        repeated_share([1], 0)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_the_share_stands_within_bounds_and_grows_when_a_text_is_said_twice(tokens: list[int]):
    share = repeated_share(tokens)
    assert 0.0 <= share < 1.0
    assert repeated_share(tokens + tokens) >= share - 1e-12
    assert repeated_share([token + 7 for token in tokens]) == share
