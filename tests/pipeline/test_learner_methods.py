"""What the learner makes of each way to compare and to learn, on a tiny model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.advantages import credit
from pipeline.config import RunConfig
from pipeline.learning.learner import PolicyLearner
from pipeline.types import Credited
from tests.pipeline.credits import (
    OPEN,
    SPLICE,
    config,
    credited,
    distance,
    gradients,
    plain_logprobs,
    random_groups,
    reference_ids,
    rollout,
)
from tests.tiny import tiny_model

LABELS = (1.0, 0.0, 0.0)


def learner(settings: RunConfig) -> PolicyLearner:
    return PolicyLearner({"solver": tiny_model()}, settings, SPLICE, {})


def labelled(groups: Sequence[Credited], settings: RunConfig) -> list[Credited]:
    """The groups, each with one rollout right, compared again."""
    right = [replace(g.judged, rewards=LABELS, components={"raw": LABELS}) for g in groups]
    return credit(right, settings.objective)


def own_gradient(groups: Sequence[Credited], weigh: Sequence[Sequence[float]]) -> dict[str, Tensor]:
    """Of the mean over rollouts of -weight * summed log-probability, one forward pass each."""
    model, loss = tiny_model(), torch.zeros(())
    for group, weights in zip(groups, weigh, strict=True):
        for item, weight in zip(group.judged.group.rollouts, weights, strict=True):
            first = item.written.index(True)
            loss = loss - weight * plain_logprobs(model, item.tokens)[first - 1 :].sum()
    (loss / sum(map(len, weigh))).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_pacs_on_policy_is_rloo_with_summed_tokens_under_any_budget(tmp_path: Path, budget: int):
    asked = {"surrogate": "pacs", "aggregate": "sequence", "advantage": "rloo", "answer_term": 0.0}
    settings = config(objective=asked, learner={"token_budget": budget})
    groups = labelled(random_groups(1), settings)
    found, stats = gradients(learner(settings), groups, tmp_path / "a")
    wanted = own_gradient(groups, [g.advantages for g in groups])
    assert groups[0].advantages == pytest.approx((1.0, -0.5, -0.5))
    assert distance(found, wanted) < 1e-5
    assert stats.loss == pytest.approx(0.693147, abs=1e-6)  # every score is 0
    assert stats.rows == 9


def test_pacs_learns_from_siblings_that_no_advantage_tells_of(tmp_path: Path):
    # psr credits the right one alone; under pacs the wrong ones are read and pushed down too
    asked = {"surrogate": "pacs", "aggregate": "sequence", "answer_term": 0.0}
    weighed = config(objective={**asked, "advantage": "psr"})
    groups = labelled(random_groups(1), weighed)
    assert groups[0].advantages == (1.0, 0.0, 0.0)
    found, _ = gradients(learner(weighed), groups, tmp_path / "a")
    rloo = config(objective={**asked, "advantage": "rloo"})
    wanted, _ = gradients(learner(rloo), labelled(random_groups(1), rloo), tmp_path / "b")
    assert distance(found, wanted) < 1e-6


def test_pacs_refuses_rewards_that_do_not_tell_right_from_wrong():
    settings = config(objective={"surrogate": "pacs", "answer_term": 0.0})
    one = random_groups(1, groups=1)[0]
    shaped = replace(one, judged=replace(one.judged, rewards=(0.5, 0.1, 0.9)))
    with pytest.raises(ValueError, match="pacs learns to tell"):
        learner(settings).step([shaped], step=1)


def test_proposals_beside_pacs_learn_by_the_clipped_loss(tmp_path: Path):
    proposals = random_groups(9, role="generator")
    pacs = config(objective={"surrogate": "pacs", "answer_term": 0.0})
    clip = config(objective={"answer_term": 0.0})
    found, _ = gradients(learner(pacs), proposals, tmp_path / "a")
    wanted, _ = gradients(learner(clip), proposals, tmp_path / "b")
    assert distance(found, wanted) == 0.0


def test_verifrees_two_terms_are_its_estimator(tmp_path: Path):
    """Rollouts that stop at their opening answer tag, so that what was written is the reasoning."""
    settings = config(
        objective={"advantage": "rloo", "surrogate": "pg", "aggregate": "sum", "answer_term": 1.0},
        reward={"name": "verifree"},
    )
    texts = [(20, 21, OPEN), (22, OPEN), (23, 24, 25, OPEN), (26, 27)]
    rollouts = [rollout((10, 11, 12), text) for text in texts]
    plain = credited(rollouts, [0.0] * 4)
    model, reference = tiny_model(), reference_ids(plain.judged.group.task)
    with torch.no_grad():
        said = [_said(model, one.tokens, reference) for one in rollouts]
    rewards = (*(float(x.exp()) for x in said[:3]), 0.0)  # the last opens no answer
    judged = replace(plain.judged, rewards=rewards, components={"raw": rewards})
    [group] = credit([judged], settings.objective)
    found, stats = gradients(learner(settings), [group], tmp_path / "a")

    loss, mean = torch.zeros(()), sum(rewards) / 4
    for one, reward in zip(rollouts, rewards, strict=True):
        thought = plain_logprobs(model, one.tokens)[2:].sum()
        loss = loss - (reward - mean) * 4 / 3 * thought / 4
        if reward:
            loss = loss - reward * _said(model, one.tokens, reference) / 4
    loss.backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert stats.loss == pytest.approx(float(loss.detach()), abs=1e-5)
    assert distance(found, wanted) < 1e-5
    assert stats.unspliced == 0  # of weight 0, it asks for no branch


def _said(model: torch.nn.Module, tokens: Sequence[int], reference: Sequence[int]) -> Tensor:
    """Log-probability of the reference behind the tokens."""
    return plain_logprobs(model, (*tokens, *reference))[len(tokens) - 1 :].sum()


def test_summed_tokens_are_the_length_budget_times_it(tmp_path: Path):
    plain = {"answer_term": 0.0}
    sized = {"max_tokens": 50}
    summed, _ = gradients(
        learner(config(objective={**plain, "aggregate": "sum"}, solver=sized)),
        random_groups(2),
        tmp_path / "a",
    )
    budget, _ = gradients(
        learner(config(objective={**plain, "aggregate": "budget"}, solver=sized)),
        random_groups(2),
        tmp_path / "b",
    )
    assert distance(summed, {name: 50 * value for name, value in budget.items()}) < 1e-5


def test_dppo_pulls_on_rollouts_of_advantage_0_too():
    plain = [rollout((10, 11), (20, 1)), rollout((10, 11), (21, 22, 1))]
    group = credited(plain, [1.0, 0.0])
    settings = config(objective={"surrogate": "dppo", "answer_term": 0.0})
    assert learner(settings).step([group], step=1)["solver"].rows == 2
    assert learner(config(objective={"answer_term": 0.0})).step([group], step=1)["solver"].rows == 1


@pytest.mark.parametrize("surrogate", ["clip", "pacs"])
def test_attempts_without_chance_train_nothing_and_are_in_no_denominator(
    tmp_path: Path, surrogate: str
):
    settings = config(objective={"surrogate": surrogate, "advantage": "rloo"})
    groups = labelled(random_groups(3), settings)
    lone = rollout((10, 11), (20, OPEN, 21, 1))
    greedy = credited([lone], [0.7], [0.5], role="greedy")
    beside, more = gradients(learner(settings), [*groups, greedy], tmp_path / "a")
    alone, stats = gradients(learner(settings), groups, tmp_path / "b")
    assert distance(beside, alone) == 0.0
    assert more == stats


def test_a_step_by_tokens_is_the_explicit_sum_over_them(tmp_path: Path):
    settings = config(objective={"advantage": "tempo", "answer_term": 0.0, "surrogate": "pg"})
    prompt, texts = (10, 11, 12), [(20, 21, 1), (20, 22, 23, 1), (24, 1)]
    plain = credited([rollout(prompt, text) for text in texts], [0.0] * 3)
    [group] = labelled([plain], settings)
    found, stats = gradients(learner(settings), [group], tmp_path / "a")
    model, loss = tiny_model(), torch.zeros(())
    for one, row in zip(plain.judged.group.rollouts, group.by_token, strict=True):
        loss = loss - (torch.tensor(row) * plain_logprobs(model, one.tokens)[2:]).sum() / 9
    loss.backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert stats.loss == pytest.approx(float(loss.detach()), abs=1e-5)
    assert distance(found, wanted) < 1e-5
