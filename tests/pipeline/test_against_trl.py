"""The learner beside TRL's GRPOTrainer: rollouts and rewards in, the same loss and gradient."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import Qwen3ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from pipeline.advantages import credit
from pipeline.learner import PolicyLearner
from pipeline.policy import copy_weights, merged_state
from pipeline.types import Evidence, Group, Judged, Task, Transcript
from tests.pipeline.credits import SPLICE, config, distance, gradients, rollout
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = ["first task", "another, longer task"]
SIZE, VOCAB, LONGEST = 4, 264, 12
REWARDS = [1.0, 0.0, 0.5, 0.25, 0.2, 0.9, 0.1, 0.1]


def completions() -> list[list[int]]:
    """Random text of 2 to 11 tokens and an end, the last completion cut off by its budget."""
    rng = random.Random(0)
    texts = [[rng.randrange(2, VOCAB) for _ in range(rng.randrange(2, LONGEST))] for _ in REWARDS]
    return [[*text, 1] for text in texts[:-1]] + [texts[-1]]


def trl_step(folder: Path, scale: str, beta: float) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of TRL on the fixed rollouts, its own advantages included."""
    tokenizer, texts = tiny_tokenizer(), completions()

    def fixed(prompts: Sequence[str], trainer: GRPOTrainer) -> dict[str, list[list[float]]]:
        ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        return {
            "prompt_ids": ids,
            "completion_ids": texts,
            "logprobs": [[0.0] * len(text) for text in texts],
        }

    model, start = tiny_model(vocab=VOCAB), folder / "start"
    if beta:  # TRL measures its divergence from the model of this name
        start_model().save_pretrained(start)
        model.config._name_or_path = str(start)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda prompts, **_: REWARDS,
        args=GRPOConfig(
            output_dir=str(folder),
            report_to="none",
            use_cpu=True,
            bf16=False,
            beta=beta,
            scale_rewards=scale,
            loss_type="dapo",
            use_bias_correction_kl=False,
            epsilon=0.2,
            epsilon_high=0.28,
            per_device_train_batch_size=len(REWARDS),
            num_generations=SIZE,
            max_completion_length=LONGEST,
            gradient_checkpointing=False,
            temperature=1.0,
        ),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tokenizer,
        rollout_func=fixed,
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions(
        [{"prompt": p} for p in PROMPTS for _ in range(SIZE)]
    )
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    found = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


def start_model() -> Qwen3ForCausalLM:
    """Weights a little off the policy's, so that the divergence from them is not 0."""
    model = tiny_model(vocab=VOCAB)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.05)
    return model


@pytest.mark.parametrize("scale", ["group", "none"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_trl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str, beta: float
):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    wanted_loss, wanted = trl_step(tmp_path / "trl", scale, beta)
    settings = config(
        objective={
            "advantage": "grpo" if scale == "group" else "centred",
            "kl": beta,
            "answer_term": 0.0,
        }
    )
    tokenizer, texts, groups = tiny_tokenizer(), completions(), []
    for number, prompt in enumerate(PROMPTS):
        own = slice(number * SIZE, (number + 1) * SIZE)
        rollouts = tuple(
            rollout(tuple(tokenizer(prompt)["input_ids"]), tuple(text)) for text in texts[own]
        )
        task = Task(str(number), prompt, "7", "human")
        group = Group(str(number), "solver", task, rollouts, (Transcript("ok"),) * SIZE)
        evidence = (Evidence("measured", "proxy@0"),) * SIZE
        judged = Judged(group, evidence, tuple(range(SIZE)), tuple(REWARDS[own]))
        groups.append(credit(judged, settings.objective))
    model = start_model()
    trained = PolicyLearner({"solver": model}, settings, SPLICE, {})
    copy_weights(model, merged_state(tiny_model(vocab=VOCAB)))  # the policy has moved on since
    found, stats = gradients(trained, groups, tmp_path / "ours")
    assert stats.loss == pytest.approx(wanted_loss, abs=1e-5)
    assert distance(found, wanted) < 1e-5
