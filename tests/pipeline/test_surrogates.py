"""Surrogates: vectors worked by hand, what each clips, and the gradients that they share."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pipeline.settings.objective import ObjectiveConfig
from pipeline.surrogates import (
    EVERY_ROW,
    SURROGATES,
    WHOLE_GROUPS,
    Slots,
    sequence_ratio,
    surrogate_of,
)


def slots(
    gaps: list[float],
    advantages: list[float],
    owner: list[int] | None = None,
    groups: list[int] | None = None,
    rewards: list[float] | None = None,
) -> Slots:
    """Slots whose ratios to the sampler's log-probabilities, all -0.5, are exp(gaps)."""
    old = torch.full((len(gaps),), -0.5, dtype=torch.float64)
    now = (old + torch.tensor(gaps, dtype=torch.float64)).requires_grad_()
    owner = owner or [0] * len(gaps)
    count = max(owner) + 1
    return Slots(
        logprobs=now,
        old=old,
        sampled=old,
        advantages=torch.tensor(advantages, dtype=torch.float64),
        owner=torch.tensor(owner),
        rollouts=count,
        groups=torch.tensor(groups or [0] * count),
        rewards=torch.tensor(rewards or [0.0] * count, dtype=torch.float64),
    )


def test_a_sequences_ratio_is_the_geometric_mean_of_its_tokens():
    found = sequence_ratio(slots([0.1, -0.05, 0.2, 0.0, 0.3], [1.0] * 5, [0, 0, 0, 0, 2]))
    # exp(0.25 / 4), a rollout without tokens, exp(0.3)
    assert found.tolist() == pytest.approx([1.064494, 1.0, 1.349859], abs=1e-6)


def test_gspo_gives_every_token_of_a_rollout_its_share_of_one_gradient():
    one = slots([0.1, -0.05, 0.2, 0.0], [1.0] * 4)
    config = ObjectiveConfig(surrogate="gspo", clip_low=0.2, clip_high=0.28)
    loss, acted = SURROGATES["gspo"](one, config)
    assert loss.tolist() == pytest.approx([-1.064494] * 4, abs=1e-6)
    loss.mean().backward()
    # d mean / d lp_t = -s / T
    assert one.logprobs.grad.tolist() == pytest.approx([-1.064494 / 4] * 4, abs=1e-6)
    assert not acted.any()
    tight = ObjectiveConfig(surrogate="gspo", clip_low=3e-4, clip_high=4e-4)
    assert SURROGATES["gspo"](one, tight)[1].all()


@pytest.mark.parametrize(("high", "expected"), [(4.0, 2.5), (0.2, 0.6), (-0.8, 0.1)])
def test_cispo_weighs_by_the_clipped_ratio_and_silences_no_token(high, expected):
    # ratio 6, advantage 1, log-probability -0.5; absolute caps 5, 1.2 and 0.2
    moved = torch.tensor([-0.5], dtype=torch.float64, requires_grad=True)
    old = moved.detach() - math.log(6)
    own = replace(slots([0.0], [1.0]), logprobs=moved, old=old)
    config = ObjectiveConfig.model_construct(surrogate="cispo", clip_low=1.0, clip_high=high)
    loss, acted = SURROGATES["cispo"](own, config)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(expected)
    assert float(moved.grad) == pytest.approx(-expected / 0.5)
    assert acted.all()


@pytest.mark.parametrize("name", sorted(set(SURROGATES) - {"pacs"}))
def test_on_policy_every_surrogate_has_the_plain_gradient(name):
    own = slots([0.0, 0.0, 0.0], [0.8, -0.8, 0.0], [0, 1, 1])
    loss, acted = SURROGATES[name](own, ObjectiveConfig(surrogate=name))
    loss.sum().backward()
    shared = {"gspo": [-0.8, 0.4, 0.4], "product": [-0.8, 0.8, 0.8]}
    assert own.logprobs.grad.tolist() == pytest.approx(shared.get(name, [-0.8, 0.8, 0.0]))
    assert not acted.any()


def test_a_products_ratio_is_clipped_as_one():
    # exp(.1 - .05 + .2 + 0) = 1.284025 is above 1.28 and clipped, at 1.3 it is not
    one = slots([0.1, -0.05, 0.2, 0.0], [1.0] * 4)
    loss, acted = SURROGATES["product"](one, ObjectiveConfig(clip_high=0.28))
    assert loss.tolist() == pytest.approx([-1.28] * 4)
    assert acted.all()
    loss, acted = SURROGATES["product"](one, ObjectiveConfig(clip_high=0.3))
    assert loss.tolist() == pytest.approx([-1.284025] * 4, abs=1e-6)
    assert not acted.any()


def test_the_plain_policy_gradient_knows_no_ratio():
    own = slots([0.7, -0.9], [2.0, -1.0])
    loss, acted = SURROGATES["pg"](own, ObjectiveConfig())
    loss.sum().backward()
    assert own.logprobs.grad.tolist() == [-2.0, 1.0]
    assert not acted.any()


@pytest.mark.parametrize(("advantage", "gate"), [(1.0, 2.199336), (-1.0, 2.104030)])
def test_sapos_gate_is_the_hand_computed_one(advantage, gate):
    loss, _ = SURROGATES["sapo"](slots([math.log(1.2)], [advantage]), ObjectiveConfig())
    assert float(loss.detach()) == pytest.approx(-advantage * gate, abs=1e-6)


def probabilities(now: float, then: float, advantage: float) -> Slots:
    """One slot whose token had probability `then` at the sampler and has `now` in training."""
    own = slots([0.0], [advantage])
    logprob = torch.tensor([math.log(now)], dtype=torch.float64, requires_grad=True)
    sampled = torch.tensor([math.log(then)], dtype=torch.float64)
    return replace(own, logprobs=logprob, sampled=sampled, old=logprob.detach())


def test_dppo_drops_what_has_moved_far_enough_in_probability():
    pull = 1e-3 * math.log(1.5) ** 2
    loss, acted = SURROGATES["dppo"](probabilities(0.9, 0.6, 1.0), ObjectiveConfig())
    assert (float(loss), bool(acted)) == (pytest.approx(pull), True)
    loss, acted = SURROGATES["dppo"](probabilities(0.7, 0.6, 0.5), ObjectiveConfig())
    assert (float(loss), bool(acted)) == (pytest.approx(-0.583310, abs=1e-6), False)
    loss, acted = SURROGATES["dppo"](probabilities(0.9, 0.6, -1.0), ObjectiveConfig())
    assert (float(loss), bool(acted)) == (pytest.approx(1.5 + pull), False)
    assert SURROGATES["dppo"](probabilities(0.3, 0.6, -1.0), ObjectiveConfig())[1].all()


# one rollout of one token each, so that a token's gap is its rollout's score
SCORES, LABELS = [0.2, -0.1, 0.05, 0.0], [1.0, 0.0, 0.0, 1.0]


def test_pacs_is_the_hand_computed_cross_entropy_of_scores_against_their_siblings():
    own = slots(SCORES, [0.0] * 4, [0, 1, 2, 3], rewards=LABELS)
    loss, acted = SURROGATES["pacs"](own, ObjectiveConfig(surrogate="pacs"))
    psi = torch.tensor([0.216667, -0.183333, 0.016667, -0.05], dtype=torch.float64)
    signed = psi * (1 - 2 * torch.tensor(LABELS, dtype=torch.float64))
    assert loss.tolist() == pytest.approx(torch.nn.functional.softplus(signed).tolist(), abs=1e-6)
    assert float(loss.mean()) == pytest.approx(0.654080, abs=1e-6)
    assert not acted.any()


def test_pacs_adds_up_a_rollouts_tokens_and_tells_groups_apart():
    # the same scores over two tokens each, seats and groups mixed, beside a group of its own
    gaps = [0.15, 0.05, -0.1, 0.0, 0.05, 0.0, 3.0, -0.02, 0.02]
    owner, groups = [0, 0, 1, 1, 2, 2, 3, 4, 4], [1, 1, 1, 0, 1]
    own = slots(gaps, [0.0] * 9, owner, groups, [1.0, 0.0, 0.0, 1.0, 1.0])
    loss, _ = SURROGATES["pacs"](own, ObjectiveConfig(surrogate="pacs"))
    alone = slots(SCORES, [0.0] * 4, [0, 1, 2, 3], rewards=LABELS)
    wanted, _ = SURROGATES["pacs"](alone, ObjectiveConfig(surrogate="pacs"))
    found = loss[[0, 2, 4, 7]]
    torch.testing.assert_close(found, wanted)
    assert float(loss[6]) == pytest.approx(math.log(2))  # a lone rollout scores 0, however far


def test_pacs_learns_on_policy_what_rloo_with_summed_tokens_learns():
    owner = [0, 0, 1, 2, 2, 2, 3]
    own = slots([0.0] * 7, [0.0] * 7, owner, rewards=LABELS)
    loss, _ = SURROGATES["pacs"](own, ObjectiveConfig(surrogate="pacs"))
    counts = torch.bincount(torch.tensor(owner))[torch.tensor(owner)]
    (loss / counts).sum().backward()
    advantages = [2 / 3, -2 / 3, -2 / 3, 2 / 3]  # rloo of LABELS
    assert own.logprobs.grad.tolist() == pytest.approx([-advantages[i] for i in owner])


@pytest.mark.parametrize("reward", [0.5, 2.0, -1.0])
def test_pacs_refuses_a_reward_that_is_neither_right_nor_wrong(reward):
    own = slots([0.0, 0.0], [0.0, 0.0], [0, 1], rewards=[1.0, reward])
    with pytest.raises(ValueError, match="pacs learns to tell rewards of 1 from 0"):
        SURROGATES["pacs"](own, ObjectiveConfig(surrogate="pacs"))


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_every_surrogate_tells_its_formula_its_range_and_its_source(name):
    told = SURROGATES[name].__doc__ or ""
    assert "->" in told
    assert "Source: " in told


def test_proposals_take_the_clipped_loss_where_nothing_tells_them_right():
    pacs, gspo = ObjectiveConfig(surrogate="pacs"), ObjectiveConfig(surrogate="gspo")
    assert (surrogate_of(pacs, "generator"), surrogate_of(pacs, "solver")) == ("clip", "pacs")
    assert surrogate_of(gspo, "generator") == "gspo"
    assert {*EVERY_ROW, *WHOLE_GROUPS} <= SURROGATES.keys()
