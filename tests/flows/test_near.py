"""MinHash finds what comparing everything with everything finds."""

from __future__ import annotations

import random

import pytest

from flows.sources.near import bands, earlier_pairs, nearest_pairs
from pipeline.curriculum import Seen, likeness


def texts(count: int, seed: int) -> list[str]:
    """Questions of 60 words, and copies of them with some words changed."""
    rng = random.Random(seed)
    words = [f"w{n}" for n in range(400)]
    made = [rng.choices(words, k=60) for _ in range(count)]
    for source in made[: count // 2]:
        copy = list(source)
        for _ in range(rng.randrange(4)):
            copy[rng.randrange(60)] = rng.choice(words)
        made.append(copy)
    return [" ".join(one) for one in made]


@pytest.mark.parametrize("threshold", [0.7, 0.9, 1.0])
def test_candidates_are_those_of_the_exact_search(threshold: float) -> None:
    mine, others = texts(60, 1), texts(60, 1)[::-1]
    seen = Seen(threshold)
    for text in others:
        seen.add("seed", text)
    exact = {n: seen.nearest(text)[0] for n, text in enumerate(mine)}
    found = {n: alike for n, _, alike in nearest_pairs(mine, others, threshold)}
    assert found == {n: pytest.approx(a) for n, a in exact.items() if a >= threshold}
    assert len(found) > 30


def test_likeness_is_that_of_the_curriculum() -> None:
    seen = Seen(0.5)
    seen.add("seed", "How many apples has Ann in all?")
    for text in ("How many apples has Ann in all?", "how many  apples has Bob in all", "?", "no"):
        assert likeness(text, "How many apples has Ann in all?") == pytest.approx(
            seen.nearest(text)[0]
        )
    assert likeness("?", "!") == likeness("!", "?")


def test_a_pair_names_the_first_of_equals_and_each_later_text_once() -> None:
    assert earlier_pairs(["a b c", "x", "A b c.", "a b c"], 0.9) == [(2, 0, 1.0), (3, 0, 1.0)]
    assert nearest_pairs(["a b c"], ["x", "a b c", "a b c"], 0.9) == [(0, 1, 1.0)]
    assert nearest_pairs([], ["a"], 0.9) == nearest_pairs(["a"], [], 0.9) == []


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8, 0.95, 1.0])
def test_at_most_one_pair_in_a_thousand_is_missed_at_the_threshold(threshold: float) -> None:
    count, rows = bands(threshold)
    assert count * rows <= 128
    assert rows == 1 or (1 - threshold**rows) ** count <= 1e-3
