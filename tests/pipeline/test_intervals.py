"""Intervals: clustered by task, paired, and Wilson's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measures import NotMeasurable, clustered, paired, student_975, wilson


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (29, 2.0452), (48, 2.0106)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, expected):
    assert student_975(freedom) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(12, 30, 0.245906, 0.576796), (145, 200, 0.659317, 0.782203), (0, 10, 0.0, 0.277533)],
)
def test_wilsons_interval_is_the_hand_computed_one(k, n, low, high):
    estimate = wilson(k, n)
    assert (estimate.value, estimate.n) == (k / n, n)
    assert (estimate.low, estimate.high) == (
        pytest.approx(low, abs=1e-6),
        pytest.approx(high, abs=1e-6),
    )


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_not_measurable(k, n):
    with pytest.raises(NotMeasurable):
        wilson(k, n)


def test_samples_of_one_task_are_no_independent_evidence():
    # per-task means .75, .25, 1: SE .220479 over three tasks, t(2) = 4.302653
    estimate = clustered([[1, 1, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
    assert (estimate.value, estimate.n) == (pytest.approx(2 / 3), 3)
    assert estimate.high - estimate.value == pytest.approx(4.302653 * 0.220479, abs=1e-5)
    assert estimate.low < 0  # not clipped


def test_from_fifty_tasks_on_the_interval_is_normal():
    estimate = clustered([[0.0], [1.0]] * 25)
    half = 1.959964 * math.sqrt(0.25 * 50 / 49 / 50)
    assert (estimate.low, estimate.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))


def test_clusters_that_all_agree_on_a_share_are_still_uncertain():
    assert clustered([[1, 1]] * 30) == wilson(30, 30)
    assert clustered([[0.5]] * 8) == wilson(4, 8)
    assert clustered([[1.0]]).low < 0.5


def test_clusters_that_agree_on_no_share_have_no_width():
    estimate = clustered([[-2.0], [-2.0]])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (-2.0, -2.0, -2.0, 2)


def test_a_cluster_without_values_is_left_out():
    assert clustered([[1.0], [], [0.0]]) == clustered([[1.0], [0.0]])


@pytest.mark.parametrize("clusters", [[], [[]], [[-2.0]], [[math.nan], [1.0]], [[math.inf], [1.0]]])
def test_too_little_or_unusable_is_not_measurable(clusters):
    with pytest.raises(NotMeasurable):
        clustered(clusters)


def test_pairing_by_task_is_the_hand_computed_one():
    # 200 tasks: both right 120, only a 25, only b 11, none 44
    a = [[1]] * 120 + [[1]] * 25 + [[0]] * 11 + [[0]] * 44
    b = [[1]] * 120 + [[0]] * 25 + [[1]] * 11 + [[0]] * 44
    estimate = paired(a, b)
    assert (estimate.value, estimate.n) == (pytest.approx(0.07), 200)
    assert (estimate.low, estimate.high) == (
        pytest.approx(0.01186, abs=2e-5),
        pytest.approx(0.12814, abs=2e-5),
    )


def test_equal_pairs_differ_by_nothing_with_no_width():
    estimate = paired([[1.0], [0.0], []], [[1.0], [0.0], [1.0]])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.0, 0.0, 0.0, 2)


def test_pairs_must_be_whole():
    with pytest.raises(ValueError, match="longer"):
        paired([[1.0]], [[1.0], [0.0]])
    with pytest.raises(NotMeasurable):
        paired([[1.0]], [[0.0]])


@given(
    st.lists(st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=1, max_size=4), min_size=2)
)
def test_an_interval_holds_its_value_and_ignores_the_order_of_clusters(clusters):
    estimate = clustered(clusters)
    assert estimate.low <= estimate.value <= estimate.high
    other = clustered(clusters[::-1])
    assert (other.low, other.high) == (pytest.approx(estimate.low), pytest.approx(estimate.high))
