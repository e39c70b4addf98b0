"""The learner beside TRL's RLOOTrainer: rollouts and rewards in, the same loss and gradient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import RLOOConfig, RLOOTrainer

from pipeline.advantages import credit
from pipeline.config import RewardConfig, RunConfig
from pipeline.learning.learner import PolicyLearner
from pipeline.rewards.divergence import divergence_terms
from pipeline.types import Credited, Evidence, Group, Judged, Reading, Task, Transcript
from tests.pipeline.credits import SPLICE, config, distance, gradients, plain_logprobs, rollout
from tests.pipeline.test_against_trl import (
    LONGEST,
    PROMPTS,
    REWARDS,
    SIZE,
    VOCAB,
    completions,
    old_logprobs,
    start_model,
)
from tests.tiny import tiny_model, tiny_tokenizer


class Fixed(RLOOTrainer):
    """TRL's trainer, that samples nothing."""

    def _generate(
        self, prompts: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]], list[str]]:
        ids = [self.processing_class(prompt)["input_ids"] for prompt in prompts]
        return ids, completions(), [""] * len(ids)


def trls_step(folder: Path, beta: float, stale: bool) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of TRL on the fixed rollouts, those of `old_logprobs` where stale."""
    model, start = tiny_model(vocab=VOCAB), folder / "start"
    if beta:
        start_model().save_pretrained(start)
        model.config._name_or_path = str(start)
    trainer = Fixed(
        model=model,
        reward_funcs=lambda prompts, **_: REWARDS,
        args=RLOOConfig(
            output_dir=str(folder),
            report_to="none",
            use_cpu=True,
            bf16=False,
            beta=beta,
            per_device_train_batch_size=len(REWARDS),
            num_generations=SIZE,
            max_completion_length=LONGEST,
            gradient_checkpointing=False,
            temperature=1.0,
        ),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tiny_tokenizer(),
    )
    trainer.model.train()
    inputs = trainer._generate_and_score_completions(
        [{"prompt": p} for p in PROMPTS for _ in range(SIZE)]
    )
    if stale:
        inputs["old_logps"] = torch.tensor([sum(row) for row in old_logprobs()])
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    found = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


def our_groups(settings: RunConfig, beta: float, stale: bool) -> list[Credited]:
    """The fixed rollouts, their divergence priced, set against each other."""
    tokenizer, texts, old = tiny_tokenizer(), completions(), old_logprobs()
    now, start, groups = tiny_model(vocab=VOCAB), start_model(), []
    for number, prompt in enumerate(PROMPTS):
        own = slice(number * SIZE, (number + 1) * SIZE)
        ids = tuple(tokenizer(prompt)["input_ids"])
        version = "solver@earlier" if stale else "solver@0"
        rollouts = tuple(
            rollout(ids, tuple(text), version, logprobs)
            for text, logprobs in zip(texts[own], old[own], strict=True)
        )
        evidence = []
        for one in rollouts:
            with torch.no_grad():
                gaps = plain_logprobs(now, one.tokens) - plain_logprobs(start, one.tokens)
            k1 = Reading("start", "start@0", "measured", tuple(gaps[len(ids) - 1 :].tolist()))
            evidence.append(Evidence("measured", "proxy@0", readings=(k1,)))
        price = divergence_terms(evidence, RewardConfig())["reasoning"]
        rewards = tuple(r + beta * p for r, p in zip(REWARDS[own], price, strict=True))
        task = Task(str(number), prompt, "7", "human")
        group = Group(str(number), "solver", task, rollouts, (Transcript("ok"),) * SIZE)
        judged = Judged(group, tuple(evidence), tuple(range(SIZE)), rewards)
        groups += credit([judged], settings.objective)
    return groups


@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("stale", [False, True])
def test_rloo_and_its_price_of_divergence_are_trls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beta: float, stale: bool
):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    wanted_loss, wanted = trls_step(tmp_path / "trl", beta, stale)
    settings = config(
        objective={
            "advantage": "rloo",
            "surrogate": "product",
            "aggregate": "sequence",
            "clip_low": 0.2,
            "clip_high": 0.2,
            "answer_term": 0.0,
        }
    )
    trained = PolicyLearner({"solver": tiny_model(vocab=VOCAB)}, settings, SPLICE, {})
    found, stats = gradients(trained, our_groups(settings, beta, stale), tmp_path / "ours")
    assert stats.loss == pytest.approx(wanted_loss, abs=1e-5)
    assert distance(found, wanted) < 1e-5
    assert (stats.clipped > 0) == stale


def test_the_plain_policy_gradient_with_summed_tokens_is_rloos_on_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    _, wanted = trls_step(tmp_path / "trl", 0.0, False)
    settings = config(
        objective={
            "advantage": "rloo",
            "surrogate": "pg",
            "aggregate": "sum",
            "answer_term": 0.0,
        }
    )
    trained = PolicyLearner({"solver": tiny_model(vocab=VOCAB)}, settings, SPLICE, {})
    found, _ = gradients(trained, our_groups(settings, 0.0, False), tmp_path / "ours")
    assert distance(found, wanted) < 1e-5
