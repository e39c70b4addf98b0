from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.offline import (
    OBJECTIVES,
    dpo_losses,
    log_partition,
    qrpo_losses,
    take_all,
    take_best,
    take_pair,
    take_reasoned,
)
from pipeline.quantiles import quantiles
from pipeline.settings.offline import OfflineConfig
from pipeline.types import Evidence, Group, Judged, Task, Transcript
from tests.pipeline.credits import rollout

PLAIN = OfflineConfig()


def judged(rewards: list[float], evidence: list[Evidence] | None = None, forms: str = "") -> Judged:
    """A group of rollouts "0", "1", ... with these rewards; in `forms` an x is malformed text."""
    size = len(rewards)
    rows = tuple(replace(rollout((2, 3), (4, 5 + n)), id=str(n)) for n in range(size))
    told = tuple(
        Transcript("ok", "so", "4") if form == "." else Transcript("unclosed")
        for form in forms or "." * size
    )
    group = Group("g", "solver", Task("t", "What?", "4", "human"), rows, told)
    return Judged(
        group,
        tuple(evidence or [Evidence("measured", "proxy@0")] * size),
        tuple(range(size)),
        tuple(rewards),
    )


def reasoned(after: float, before: float = 2.0) -> Evidence:
    """Evidence of a reference of two tokens, with these mean losses after and before reasoning."""
    return Evidence("measured", "proxy@0", (-after, -after), (-before, -before), 3)


def names(one: Judged, take: object, config: OfflineConfig = PLAIN) -> list[str]:
    assert callable(take)
    return [one.group.rollouts[pick.seat].id for pick in take(one, config)]


def turned(one: Judged) -> Judged:
    """The same group with its rollouts in the opposite order."""
    group = replace(
        one.group, rollouts=one.group.rollouts[::-1], transcripts=one.group.transcripts[::-1]
    )
    return replace(one, group=group, evidence=one.evidence[::-1], rewards=one.rewards[::-1])


def test_a_quantile_counts_ties_and_the_completion_itself() -> None:
    assert quantiles([0.1, 0.5, 0.7]) == pytest.approx((1 / 3, 2 / 3, 1))
    assert quantiles([0.5, 0.5 + 1e-9, 0.1, 0.9]) == (0.75, 0.75, 0.25, 1.0)  # equal but for noise
    assert quantiles([3.0]) == (1.0,)


@pytest.mark.parametrize(
    ("beta", "exact", "simplified"),
    [(0.1, 7.697370, 7.697415), (1.0, 0.541325, 1.0), (5.0, 0.101666, 1.809438)],
)
def test_the_partition_function_is_exact(beta: float, exact: float, simplified: float) -> None:
    assert log_partition(beta) == pytest.approx(exact, abs=1e-6)
    assert math.log(beta) + 1 / beta == pytest.approx(simplified, abs=1e-6)


@given(st.floats(1e-300, 1e300))
def test_the_partition_function_is_finite_for_every_beta_and_above_0(beta: float) -> None:
    # a mean of exp(q / beta) over q in [0, 1] lies between exp(0) and exp(1 / beta)
    found = log_partition(beta)
    assert math.isfinite(found)
    assert -1e-12 * max(1, abs(math.log(beta))) <= found <= 1 / beta + 1e-12


def test_the_regression_gives_the_worked_losses() -> None:
    # QRPO's own numbers, which drop the -1 in log Z
    simplified = math.log(0.1) + 10
    [first] = qrpo_losses(torch.tensor([-1.0]), torch.tensor([2 / 3]), 0.1, simplified).tolist()
    assert first == pytest.approx(9.4545e-06, rel=1e-2)  # float32 of a difference near 0
    gaps, told = torch.tensor([-2.0]).double(), torch.tensor([1.0]).double()
    [second] = qrpo_losses(gaps, told, 0.003, math.log(0.003) + 1 / 0.003).tolist()
    assert second == pytest.approx(5.4884e-04, rel=1e-4)
    # at small beta the exact log Z is the simplified one
    [again] = qrpo_losses(gaps, told, 0.003, log_partition(0.003)).tolist()
    assert again == pytest.approx(second, rel=1e-12)


@pytest.mark.parametrize(("q", "gap"), [(1.0, 2.302585), (0.0, -7.697415)])
def test_the_loss_is_0_at_the_optimal_log_ratio(q: float, gap: float) -> None:
    at = torch.tensor([gap], dtype=torch.float64)
    told = torch.tensor([q], dtype=torch.float64)
    assert qrpo_losses(at, told, 0.1, math.log(0.1) + 10).item() < 1e-12
    moved = torch.tensor([(q - 0.1 * log_partition(0.1)) / 0.1], dtype=torch.float64)
    assert qrpo_losses(moved, told, 0.1, log_partition(0.1)).item() < 1e-24


def test_a_pair_that_has_not_moved_costs_ln_2_and_pulls_by_half_of_beta() -> None:
    best = torch.tensor([0.0, 1.0], requires_grad=True)
    losses = dpo_losses(best, torch.tensor([0.0, -1.0]), 0.5)
    # softplus(-beta * gap): ln(1 + e^0) and ln(1 + e^-1)
    torch.testing.assert_close(losses, torch.tensor([0.693147, 0.313262]))
    losses[0].backward()
    assert best.grad is not None
    assert best.grad[0].item() == pytest.approx(-0.25)


def test_each_completion_is_regressed_on_its_own_quantile_the_malformed_too() -> None:
    one = judged([0.5, 0.0, 1.5, 0.0], forms=".x.x")
    assert [(p.seat, p.value) for p in take_all(one, PLAIN)] == [
        (0, 0.75), (1, 0.5), (2, 1.0), (3, 0.5),
    ]  # fmt: skip


def test_what_could_not_be_judged_is_neither_taken_nor_counted() -> None:
    one = replace(judged([0.5, 0.0, 1.5]), kept=(0, 2), rewards=(0.5, 1.5))
    assert [(p.seat, p.value) for p in take_all(one, PLAIN)] == [(0, 0.5), (2, 1.0)]
    assert names(one, take_pair) == ["2", "0"]


@pytest.mark.parametrize("rewards", [[0.0], [0.0, 0.0, 0.0], [1.5, 1.5], []])
@pytest.mark.parametrize("name", ["qrpo", "dpo"])
def test_a_group_of_one_or_of_equals_has_nothing_to_compare(
    name: str, rewards: list[float]
) -> None:
    assert OBJECTIVES[name].take(judged(rewards), PLAIN) == []


def test_a_pair_is_the_best_and_the_worst() -> None:
    assert names(judged([0.5, 0.0, 1.5, 0.7], forms=".x.."), take_pair) == ["2", "1"]


def test_the_reference_follows_the_best_that_is_well_formed() -> None:
    assert names(judged([0.5, 9.0, 1.5], forms=".x."), take_best) == ["2"]
    assert names(judged([0.0, 0.0], forms="xx"), take_best) == []


@pytest.mark.parametrize(
    ("after", "before", "taken"), [(1.5, 2.0, True), (2.4, 2.0, False), (0.4, 0.5, False)]
)
def test_reasoning_is_imitated_where_its_advantage_is_strictly_above_the_bar(
    after: float, before: float, taken: bool
) -> None:
    # 0.25 is above 0.2, -0.2 and 0.2 itself are not
    one = judged([0.0], [reasoned(after, before)])
    assert bool(take_reasoned(one, OfflineConfig(top_share=1.0))) == taken


def test_no_more_than_the_top_share_of_the_well_formed_is_imitated() -> None:
    evidence = [reasoned(x) for x in (1.0, 0.2, 0.6, 1.4)] + [Evidence("malformed", "proxy@0")]
    one = judged([0.0] * 5, evidence, forms="....x")  # the reward that trained plays no part
    assert names(one, take_reasoned, OfflineConfig(top_share=0.25)) == ["1"]
    assert names(one, take_reasoned, OfflineConfig(top_share=0.3)) == ["1", "2"]
    assert names(one, take_reasoned, OfflineConfig(top_share=1.0)) == ["1", "2", "0", "3"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_rollouts_taken_stay_the_same_when_siblings_change_seats(name: str) -> None:
    evidence = [reasoned(x) for x in (1.0, 0.2, 0.2, 1.4)]
    one = judged([0.5, 1.5, 1.5, 0.5], evidence)  # equals at both ends
    take = OBJECTIVES[name].take

    def taken(group: Judged) -> set[tuple[str, float]]:
        return {(group.group.rollouts[p.seat].id, p.value) for p in take(group, PLAIN)}

    assert taken(turned(one)) == taken(one) != set()
