"""What the losses of a step are divided by: hand-computed, and the same however it is split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.learning.learner import PolicyLearner
from tests.pipeline.credits import SPLICE, config, credited, distance, gradients, rollout
from tests.tiny import tiny_model

# on policy a token's loss is minus its advantage: -1 on two tokens, 0.5 on six
GROUPS = [
    credited(
        [rollout((3, 4), (5, 6)), rollout((3, 4), (7, 8, 9, 10, 11, 12))],
        advantages=[1.0, -0.5],
    )
]


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("token", 0.125), ("sequence", -0.25), ("budget", 0.05)]
)
def test_two_completions_of_two_and_six_tokens(tmp_path: Path, aggregate: str, expected: float):
    asked = config(objective={"aggregate": aggregate}, solver={"max_tokens": 10})
    trained = PolicyLearner({"solver": tiny_model()}, asked, SPLICE, {})
    stats = gradients(trained, GROUPS, tmp_path / "step")[1]
    assert stats.policy_loss == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("surrogate", ["clip", "gspo", "cispo"])
@pytest.mark.parametrize("aggregate", ["token", "sequence", "budget"])
def test_the_split_into_micro_batches_changes_no_gradient(
    tmp_path: Path, aggregate: str, surrogate: str
):
    found = []
    for budget in (6, 4096):
        asked = config(
            objective={"aggregate": aggregate, "surrogate": surrogate, "kl": 0.1},
            learner={"token_budget": budget},
        )
        trained = PolicyLearner({"solver": tiny_model()}, asked, SPLICE, {})
        folder = tmp_path / str(budget)
        found.append(gradients(trained, GROUPS, folder)[0])
    assert distance(*found) < 1e-6
    assert any(torch.any(gradient != 0) for gradient in found[0].values())
