"""The rank ladder: worked by hand, then what no task may change."""

from __future__ import annotations

import pytest

from pipeline.evaluation.ladder import RUNGS, rank_ladder, variants
from pipeline.measures import NotMeasurable
from pipeline.text.choices import Option

OPTIONS = (Option("A", "rock"), Option("B", "pear"), Option("C", "chair"))


def test_a_task_has_four_answers_by_what_is_right_in_them() -> None:
    assert variants(OPTIONS, 1) == {
        "both": "B. pear", "text": "C. pear", "letter": "B. chair", "neither": "C. chair",
    }  # fmt: skip
    assert variants(OPTIONS, 2)["neither"] == "A. rock"
    with pytest.raises(ValueError, match="1 options"):
        variants(OPTIONS[:1], 0)


def scored(*means: float) -> dict[str, tuple[float, ...]]:
    return {rung: (mean, mean) for rung, mean in zip(RUNGS, means, strict=True)}


def test_shares_of_tasks_in_order_and_of_each_pair() -> None:
    # in order; text below letter; all alike
    found = rank_ladder([scored(-1, -2, -3, -4), scored(-1, -3, -2, -4), scored(-1, -1, -1, -1)])
    assert found.ordered.value == pytest.approx(1 / 3)
    shares = {pair: share.value for pair, share in found.pairs.items()}
    assert shares == {
        ("both", "text"): pytest.approx(2.5 / 3),
        ("both", "letter"): pytest.approx(2.5 / 3),
        ("both", "neither"): pytest.approx(2.5 / 3),
        ("text", "letter"): pytest.approx(1.5 / 3),
        ("text", "neither"): pytest.approx(2.5 / 3),
        ("letter", "neither"): pytest.approx(2.5 / 3),
    }


def test_lengths_compare_by_the_mean_of_a_token() -> None:
    long = {"both": (-1.0,) * 9, "text": (-2.0,), "letter": (-3.0,) * 2, "neither": (-4.0,)}
    assert rank_ladder([long]).ordered.value == 1.0


def test_the_order_of_tasks_changes_no_share() -> None:
    one, two = scored(-1, -2, -3, -4), scored(-4, -3, -2, -1)
    assert rank_ladder([one, two, two]) == rank_ladder([two, one, two])


def test_nothing_scored_is_no_ladder() -> None:
    with pytest.raises(NotMeasurable, match="no task"):
        rank_ladder([])
    with pytest.raises(NotMeasurable, match="is not finite and <= 0"):
        rank_ladder([scored(0.5, -1, -2, -3)])
