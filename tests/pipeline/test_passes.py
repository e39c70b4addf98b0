"""pass@k and its relatives, from counts alone."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.passes import (
    average_at,
    majority_at,
    mg_pass,
    pass_all,
    pass_at,
)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (10, 3, 1, 0.3),
        (10, 3, 5, 0.91666667),
        (16, 1, 8, 0.5),
        (256, 1, 128, 0.5),
        (1024, 2, 256, 0.43768328),
        (8, 2, 4, 0.78571429),
    ],
)
def test_pass_at_k_is_the_unbiased_estimate(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at(n, c, k) == pytest.approx(expected, abs=1e-8)


def test_pass_at_k_is_averaged_after_it_was_computed_per_task() -> None:
    told = [pass_at(10, c, 5) for c in (3, 0, 10)]
    assert math.fsum(value or 0.0 for value in told) / 3 == pytest.approx(0.63888889, abs=1e-8)


def test_more_attempts_than_were_made_are_not_told() -> None:
    assert pass_at(4, 4, 5) is None  # a formula that answers 1 here inflates
    assert pass_all(4, 4, 5) is None
    assert mg_pass(4, 4, 5) is None
    assert majority_at(4, (), 0, 5) is None


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (4, 5, 1), (4, -1, 1), (4, 2, 0)])
def test_counts_that_cannot_be_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= c <= n"):
        pass_at(n, c, k)


COUNTS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


@given(COUNTS)
def test_the_product_is_the_binomial_formula(counts: tuple[int, int, int]) -> None:
    n, c, k = counts
    assert pass_at(n, c, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-12)


@given(COUNTS)
def test_pass_at_k_grows_with_k_and_stands_above_all_of_its_relatives(
    counts: tuple[int, int, int],
) -> None:
    n, c, k = counts
    value, every, mean = pass_at(n, c, k), pass_all(n, c, k), mg_pass(n, c, k)
    assert value is not None
    assert every is not None
    assert mean is not None
    assert 0.0 <= every <= value + 1e-12 <= 1.0 + 1e-12
    assert mean <= value + 1e-12
    assert value >= (pass_at(n, c, max(k - 1, 1)) or 0.0) - 1e-12


def test_pass_hat_k_asks_that_all_are_right() -> None:
    assert pass_all(10, 8, 3) == pytest.approx(0.466667, abs=1e-6)


def test_mg_pass_is_the_mean_over_the_upper_shares() -> None:
    assert mg_pass(16, 8, 4) == pytest.approx(0.161538, abs=1e-6)
    assert mg_pass(16, 16, 4) == 1.0
    assert mg_pass(16, 16, 1) == 0.0


def test_a_tie_of_two_classes_is_half_a_vote_won() -> None:
    # of two right and one wrong: {r, r} wins, {r, w} twice ties: (1 + 1/2 + 1/2) / 3
    assert majority_at(2, (1,), 0, 2) == pytest.approx(2 / 3)
    assert majority_at(1, (1, 1), 0, 3) == pytest.approx(1 / 3)


def test_an_attempt_without_an_answer_takes_a_seat_but_never_votes() -> None:
    # {r, s} and {r, w} and {w, s}: 1, 1/2, 0
    assert majority_at(1, (1,), 1, 2) == pytest.approx(0.5)
    assert majority_at(0, (), 3, 2) == 0.0


@pytest.mark.parametrize(("k", "expected"), [(3, 0.648), (5, 0.68256)])
def test_a_world_of_two_answers_gives_the_binomial_majority(k: int, expected: float) -> None:
    assert majority_at(6000, (4000,), 0, k) == pytest.approx(expected, abs=2e-4)
    draws = [math.comb(k, c) * 0.6**c * 0.4 ** (k - c) for c in range(k + 1)]
    whole = [majority_at(c, (k - c,), 0, k) or 0.0 for c in range(k + 1)]
    assert math.fsum(map(math.prod, zip(draws, whole, strict=True))) == pytest.approx(expected)


@given(
    st.integers(0, 4),
    st.lists(st.integers(1, 3), max_size=3),
    st.integers(0, 2),
    st.integers(1, 5),
)
def test_maj_at_k_is_the_mean_over_every_subset(
    right: int, wrong: list[int], silent: int, k: int
) -> None:
    attempts = [0] * right + [i for i, size in enumerate(wrong, 1) for _ in range(size)]
    attempts += [-1] * silent
    if not k <= len(attempts):
        return
    won = []
    for chosen in combinations(attempts, k):
        votes = {kind: chosen.count(kind) for kind in set(chosen) - {-1}}
        lead = [kind for kind, count in votes.items() if count == max(votes.values())]
        won.append((0 in lead) / len(lead) if lead else 0.0)
    found = majority_at(right, tuple(wrong), silent, k)
    assert found == pytest.approx(sum(won) / len(won))
    assert majority_at(right, tuple(wrong[::-1]), silent, k) == pytest.approx(found)


def test_maj_at_one_is_the_share_of_right_attempts() -> None:
    assert majority_at(3, (2, 4), 1, 1) == pytest.approx(0.3)


def test_the_error_of_avg_at_k_is_that_of_the_tasks() -> None:
    mean, error = average_at([3, 1, 4], 4)
    assert mean == pytest.approx(0.666667, abs=1e-6)
    assert error == pytest.approx(0.220479, abs=1e-6)  # attempts as if independent: .142134
    with pytest.raises(ValueError, match="two tasks"):
        average_at([3], 4)
