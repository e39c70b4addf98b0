"""Where two versions differ in what they can solve at all."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.boundary import (
    answer_entropy,
    corrected_entropy,
    coverage,
    crossover,
    curve,
    efficiency_gap,
    histogram,
    matched_temperature,
    mcnemar,
    quantiles,
    support,
)
from pipeline.measures import NotMeasurable, mean_nll, paired


def test_the_efficiency_gap_is_pass_at_n_of_the_base_minus_pass_at_1_of_the_tuned() -> None:
    # base solves three of four with any of 4 attempts, the tuned one 10 of 16 attempts
    gap = efficiency_gap([1, 4, 0, 2], [4, 4, 0, 2], 4)
    assert gap.value == pytest.approx(0.75 - 0.625)
    assert (gap.low < gap.value < gap.high, gap.n) == (True, 4)
    assert efficiency_gap([4, 4], [4, 4], 4).value == 0.0


def test_curves_cross_where_the_first_stands_above_no_longer() -> None:
    assert crossover([0.5, 0.6, 0.7], [0.3, 0.6, 0.9]) == 2
    assert crossover([0.5, 0.6], [0.3, 0.5]) is None
    assert crossover([0.5], [0.5]) == 1


def test_every_task_stands_in_one_cell_with_its_counts() -> None:
    cells = coverage({"p": (3, 1), "q": (2, 0), "r": (0, 1), "s": (0, 0), "t": (1, 0)})
    assert [(h.id, h.a, h.b) for h in cells.both] == [("p", 3, 1)]
    assert [(h.id, h.a, h.b) for h in cells.a_only] == [("q", 2, 0), ("t", 1, 0)]
    assert [(h.id, h.a, h.b) for h in cells.b_only] == [("r", 0, 1)]
    assert [(h.id, h.a, h.b) for h in cells.neither] == [("s", 0, 0)]


def test_support_tells_what_was_kept_what_is_new_and_the_net_change() -> None:
    found = support(80, 5, 12)
    assert found.srr == pytest.approx(0.869565, abs=1e-6)
    assert found.ndr == pytest.approx(0.058824, abs=1e-6)
    assert found.sds == pytest.approx(0.110193, abs=1e-6)
    assert found.nscr == pytest.approx(-0.072165, abs=1e-6)


def test_a_ratio_of_nothing_is_not_told() -> None:
    nothing = support(0, 0, 0)
    assert (nothing.srr, nothing.ndr, nothing.sds, nothing.nscr) == (None, None, None, None)
    lost = support(0, 0, 3)
    assert (lost.srr, lost.ndr, lost.sds, lost.nscr) == (0.0, None, None, -1.0)


@given(st.integers(0, 90), st.integers(0, 90), st.integers(0, 90))
def test_sds_is_the_harmonic_mean_and_nscr_turns_with_the_versions(p: int, e: int, s: int) -> None:
    found, turned = support(p, e, s), support(p, s, e)
    if found.srr and found.ndr:
        harmonic = 2 * found.srr * found.ndr / (found.srr + found.ndr)
        assert found.sds == pytest.approx(harmonic)
    if found.nscr is not None and turned.nscr is not None:
        assert -1.0 <= found.nscr == -turned.nscr <= 1.0


def test_mcnemars_p_is_the_exact_binomial() -> None:
    assert mcnemar(25, 11) == pytest.approx(0.028817, abs=1e-6)
    assert mcnemar(11, 25) == mcnemar(25, 11)
    assert (mcnemar(0, 0), mcnemar(7, 7), mcnemar(0, 1)) == (1.0, 1.0, 1.0)
    assert mcnemar(0, 2000) == pytest.approx(0.0, abs=1e-300)


def test_pairing_gives_the_interval_of_the_differences() -> None:
    # 200 tasks: both right 120, A alone 25, B alone 11, neither 44
    a = [[1.0]] * 145 + [[0.0]] * 55
    b = [[1.0]] * 120 + [[0.0]] * 25 + [[1.0]] * 11 + [[0.0]] * 44
    found = paired(a, b)
    assert found.value == pytest.approx(0.07)
    assert (found.high - found.value) / 1.959964 == pytest.approx(0.029663, abs=1e-6)
    assert found.low == pytest.approx(0.01186, abs=1e-5)
    assert found.high == pytest.approx(0.12814, abs=1e-5)


def test_shares_of_none_and_all_have_bins_of_their_own() -> None:
    found = histogram([0, 0, 1, 2, 4, 5, 8, 9, 10], 10)
    assert found == {
        "0": 2, "0-0.2": 2, "0.2-0.4": 1, "0.4-0.6": 1, "0.6-0.8": 1, "0.8-1": 1, "1": 1,
    }  # fmt: skip


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_every_task_falls_in_one_bin(counts: tuple[int, int]) -> None:
    n, c = counts
    found = histogram([c], n)
    assert sum(found.values()) == 1
    assert (found["0"], found["1"]) == (int(c == 0), int(c == n and c > 0))


def test_the_entropy_of_answers_is_that_of_their_classes() -> None:
    assert answer_entropy((5, 2, 1)) == pytest.approx(0.900256, abs=1e-6)
    assert answer_entropy((5, 2, 1)) / math.log(2) == pytest.approx(1.298795, abs=1e-6)
    assert answer_entropy((5, 2, 1)) / math.log(8) == pytest.approx(0.432932, abs=1e-6)
    assert answer_entropy((5, 2, 1)) / math.log(3) == pytest.approx(0.819448, abs=1e-6)
    assert corrected_entropy((5, 2, 1)) == pytest.approx(1.025256, abs=1e-6)


def test_one_answer_has_no_entropy_and_classes_may_come_in_any_order() -> None:
    assert (answer_entropy((8,)), corrected_entropy((8, 0)), corrected_entropy(())) == (0, 0, 0)
    assert corrected_entropy((1, 0, 2, 5)) == pytest.approx(corrected_entropy((5, 2, 1)))


def test_quantiles_lie_on_the_line_between_neighbours() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    told = torch.quantile(torch.tensor(values), torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]))
    assert quantiles(values) == pytest.approx(told.tolist())
    assert quantiles([4.0]) == (4.0,) * 5


def test_perplexity_of_each_completion_is_not_that_of_the_pooled_tokens() -> None:
    assert math.exp(mean_nll([-0.5, -0.25, -1.0])) == pytest.approx(1.792002, abs=1e-6)
    rows = [[-0.1] * 10, [-2.0] * 2]
    pooled = math.exp(mean_nll([value for row in rows for value in row]))
    assert pooled == pytest.approx(1.516897, abs=1e-6)
    each = [math.exp(mean_nll(row)) for row in rows]
    assert sum(each) / 2 == pytest.approx(4.247114, abs=1e-6)


def entropy_of(logits: list[float], temperature: float) -> float:
    shares = torch.softmax(torch.tensor(logits, dtype=torch.float64) / temperature, dim=0)
    return float(torch.special.entr(shares).sum())


def test_the_temperature_is_found_that_gives_the_base_s_entropy() -> None:
    target = entropy_of([1.2, 0.8, 0.1, -0.4], 0.6)
    tuned = [2.0, 1.0, 0.0, -1.0]
    assert target == pytest.approx(1.026385, abs=1e-6)
    assert entropy_of(tuned, 0.6) == pytest.approx(0.587660, abs=1e-6)
    found = matched_temperature(lambda t: entropy_of(tuned, t), target, 0.6)
    assert found == pytest.approx(1.145368, abs=2e-6)
    cooler = matched_temperature(lambda t: entropy_of(tuned, t), 0.587660, 1.145368)
    assert cooler == pytest.approx(0.6, abs=1e-5)


def test_an_entropy_out_of_reach_has_no_temperature() -> None:
    tried: list[float] = []

    def flat(temperature: float) -> float:
        tried.append(temperature)
        return 0.5

    assert matched_temperature(flat, 0.6, 1.0) is None
    assert (min(tried), max(tried)) == (1.0, pytest.approx(8.0))
    assert matched_temperature(flat, 0.4, 1.0) is None
    assert min(tried) == pytest.approx(0.125)


def test_equal_versions_are_matched_at_their_own_temperature() -> None:
    logits = [2.0, 1.0, 0.0]
    found = matched_temperature(lambda t: entropy_of(logits, t), entropy_of(logits, 0.9), 0.9)
    assert found == pytest.approx(0.9, abs=1e-5)


def test_a_curve_beyond_the_attempts_is_refused() -> None:
    assert curve([0, 2], 2, 2) == [0.0, 1.0]
    with pytest.raises(ValueError, match="k <= 2"):
        curve([1], 2, 3)
    with pytest.raises(NotMeasurable):
        efficiency_gap([1], [1], 2)
