"""What proposals are worth."""

from __future__ import annotations

import pytest

from pipeline.config import GeneratorConfig
from pipeline.rewards.frontier import frontier_pay, judge_proposals
from pipeline.types import Group, ProposalEvidence, Rollout, Task, Transcript

CONFIG = GeneratorConfig()


def group_of(size: int, role: str = "generator") -> Group:
    rollouts = tuple(Rollout(f"g0-p{i}", (), (), (), "", "end", i, "solver@0") for i in range(size))
    task = Task("t0", "How many?", "six", "human")
    return Group("g0", role, task, rollouts, (Transcript("ok", "Why?", "so"),) * size)


def judged(*evidence: ProposalEvidence, config: GeneratorConfig = CONFIG):
    return judge_proposals(group_of(len(evidence)), evidence, config)


@pytest.mark.parametrize(
    ("p", "pay"),
    [(0, 0), (0.5, 1), (1, 0), (0.25, 0.75), (2 / 3, 0.888889), (0.2, 0.64), (0.125, 0)],
)
def test_the_frontier_pays_most_at_half(p, pay):
    assert frontier_pay(p) == pytest.approx(pay, abs=1e-6)
    assert frontier_pay(1 - p) == pytest.approx(frontier_pay(p))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_and_one_is_refused(p):
    with pytest.raises(ValueError, match="share"):
        frontier_pay(p)


def test_near_copies_lose_their_pay_and_being_unlike_everything_earns_none():
    result = judged(
        ProposalEvidence("admitted", agreement=0.5, similarity=0.875),
        ProposalEvidence("admitted", agreement=0.25, similarity=0.75),
        ProposalEvidence("admitted", agreement=0.25, similarity=0.0),
    )
    assert result.rewards == (0.5, 0.75, 0.75)
    assert result.components["frontier"] == (1.0, 0.75, 0.75)
    assert result.components["novelty"] == (0.5, 1.0, 1.0)
    assert result.components["raw"] == result.rewards
    assert result.components["form"] == (1.0, 1.0, 1.0)


def test_success_that_a_rule_can_tell_comes_before_its_stand_ins():
    told = ProposalEvidence("admitted", solved=0.25, beats=0.5, agreement=1.0)
    assert judged(told).rewards == (0.75,)


def test_the_config_names_the_stand_in():
    untold = ProposalEvidence("admitted", beats=0.5, agreement=0.25)
    assert judged(untold).rewards == (0.75,)
    assert judged(untold, config=GeneratorConfig(frontier="beats")).rewards == (1.0,)


@pytest.mark.parametrize(
    "drop",
    [
        "malformed",
        "too_long",
        "copy_of_seed",
        "copy_of_probe",
        "duplicate_in_round",
    ],
)
def test_every_dropped_proposal_earns_nothing_whatever_its_attempts_did(drop):
    result = judged(
        ProposalEvidence(drop, agreement=0.5), ProposalEvidence("admitted", agreement=0.5)
    )
    assert result.kept == (0, 1)
    assert result.rewards == (0.0, 1.0)
    assert result.components["form"] == (float(drop != "malformed"), 1.0)


def test_doubt_about_the_reference_takes_its_share_of_the_pay_unless_a_rule_told():
    result = judged(
        ProposalEvidence("low_confidence", agreement=0.5, confidence=0.25),
        ProposalEvidence("admitted", agreement=0.5, confidence=0.75),
        ProposalEvidence("admitted", solved=0.5, agreement=0.5, confidence=0.75),
    )
    assert result.rewards == (0.25, 0.75, 1.0)
    assert result.components["confidence"] == (0.25, 0.75, 1.0)


def test_what_nobody_attempted_or_measured_is_left_out():
    result = judged(
        ProposalEvidence("not_attempted"),
        ProposalEvidence("admitted", beats=0.5),  # no agreement to pay by
        ProposalEvidence("admitted", agreement=0.5),
    )
    assert result.kept == (2,)
    assert result.rewards == (1.0,)


def test_attempts_are_not_judged_as_proposals():
    with pytest.raises(ValueError, match="solver"):
        judge_proposals(group_of(1, "solver"), [ProposalEvidence("admitted", beats=0.5)], CONFIG)
