"""The learner beside TRL's GRPOTrainer: rollouts and rewards in, the same loss and gradient."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import Qwen3ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from pipeline.advantages import credit
from pipeline.config import RunConfig
from pipeline.learning.learner import PolicyLearner
from pipeline.models.policy import copy_weights, merged_state
from pipeline.types import Credited, Evidence, Group, Judged, Task, Transcript
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


def old_logprobs() -> list[list[float]]:
    """What the weights that sampled thought of each token: uniform, give or take a third."""
    rng = random.Random(1)
    level = math.log(1 / VOCAB)
    return [[level + rng.uniform(-0.35, 0.35) for _ in text] for text in completions()]


def trls_trainer(folder: Path, beta: float, changes: Mapping[str, object]) -> GRPOTrainer:
    """TRL's trainer on the fixed rollouts and rewards, with changes to GRPO with DAPO's mean."""
    tokenizer, texts = tiny_tokenizer(), completions()
    settings = {
        "scale_rewards": "group",
        "loss_type": "dapo",
        "epsilon": 0.2,
        "epsilon_high": 0.28,
    } | dict(changes)

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
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda prompts, **_: REWARDS,
        args=GRPOConfig(
            output_dir=str(folder),
            report_to="none",
            use_cpu=True,
            bf16=False,
            beta=beta,
            use_bias_correction_kl=False,
            per_device_train_batch_size=len(REWARDS),
            num_generations=SIZE,
            max_completion_length=LONGEST,
            gradient_checkpointing=False,
            temperature=1.0,
            **settings,
        ),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tokenizer,
        rollout_func=fixed,
    )


def trl_step(
    folder: Path,
    beta: float = 0.0,
    stale: bool = False,
    weigh: Callable[[Tensor], Tensor] | None = None,
    **changes: object,
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of TRL on the fixed rollouts, its own advantages included.

    stale  whether the rollouts come from other weights, those of `old_logprobs`
    weigh  (trainer - sampler) log-probabilities -> what TRL multiplies each token's loss by
    """
    trainer = trls_trainer(folder, beta, changes)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions(
        [{"prompt": p} for p in PROMPTS for _ in range(SIZE)]
    )
    old = torch.zeros(inputs["completion_ids"].shape)
    for row, values in zip(old, old_logprobs(), strict=True):
        row[: len(values)] = torch.tensor(values)
    if stale:
        inputs["old_per_token_logps"] = old
    if weigh is not None:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        now = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, old.shape[1])[0]
        trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
        inputs["importance_sampling_ratio"] = weigh(
            (now.detach() - old) * inputs["completion_mask"]
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


def our_groups(settings: RunConfig, stale: bool = False) -> list[Credited]:
    """The fixed rollouts, judged by the fixed rewards and set against each other."""
    tokenizer, texts, old, groups = tiny_tokenizer(), completions(), old_logprobs(), []
    version = "solver@earlier" if stale else "solver@0"
    for number, prompt in enumerate(PROMPTS):
        own = slice(number * SIZE, (number + 1) * SIZE)
        ids = tuple(tokenizer(prompt)["input_ids"])
        rollouts = tuple(
            rollout(ids, tuple(text), version, logprobs)
            for text, logprobs in zip(texts[own], old[own], strict=True)
        )
        task = Task(str(number), prompt, "7", "human")
        group = Group(str(number), "solver", task, rollouts, (Transcript("ok"),) * SIZE)
        evidence = (Evidence("measured", "proxy@0"),) * SIZE
        judged = Judged(group, evidence, tuple(range(SIZE)), tuple(REWARDS[own]))
        groups += credit([judged], settings.objective)
    return groups


@pytest.mark.parametrize("scale", ["group", "none"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_trl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str, beta: float
):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    wanted_loss, wanted = trl_step(tmp_path / "trl", beta, scale_rewards=scale)
    advantage = "grpo" if scale == "group" else "dr_grpo"
    settings = config(objective={"advantage": advantage, "kl": beta, "answer_term": 0.0})
    model = start_model()
    trained = PolicyLearner({"solver": model}, settings, SPLICE, {})
    copy_weights(model, merged_state(tiny_model(vocab=VOCAB)))  # the policy has moved on since
    found, stats = gradients(trained, our_groups(settings), tmp_path / "ours")
    assert stats.loss == pytest.approx(wanted_loss, abs=1e-5)
    assert distance(found, wanted) < 1e-5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"aggregate": "sequence"}, {"loss_type": "grpo"}),
        ({"aggregate": "budget"}, {"loss_type": "dr_grpo"}),
        # two-sided clipping of TRL's is dual clip where the advantage is negative
        ({"dual_clip": 1.3}, {"delta": 1.3}),
        (
            {"surrogate": "gspo", "aggregate": "sequence", "clip_low": 0.02, "clip_high": 0.03},
            {
                "loss_type": "grpo",
                "importance_sampling_level": "sequence",
                "epsilon": 0.02,
                "epsilon_high": 0.03,
            },
        ),
        # TRL bounds CISPO's weight from above alone, at epsilon_high itself
        (
            {"surrogate": "cispo", "clip_low": 1.0, "clip_high": 0.1},
            {"loss_type": "cispo", "epsilon_high": 1.1},
        ),
        ({"surrogate": "sapo", "aggregate": "sequence"}, {"loss_type": "sapo"}),
        (
            {"surrogate": "gspo", "aggregate": "sum", "clip_low": 0.02, "clip_high": 0.03},
            {
                "loss_type": "luspo",
                "importance_sampling_level": "sequence",
                "epsilon": 0.02,
                "epsilon_high": 0.03,
            },
        ),
    ],
    ids=["clip", "sequence", "budget", "dual_clip", "gspo", "cispo", "sapo", "luspo"],
)
def test_off_policy_every_surrogate_and_every_mean_is_trls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ours: dict[str, object],
    theirs: dict[str, object],
):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    wanted_loss, wanted = trl_step(tmp_path / "trl", stale=True, **theirs)
    settings = config(
        objective={"answer_term": 0.0, **ours}, solver={"max_tokens": LONGEST, "group_size": SIZE}
    )
    trained = PolicyLearner({"solver": tiny_model(vocab=VOCAB)}, settings, SPLICE, {})
    found, stats = gradients(trained, our_groups(settings, stale=True), tmp_path / "ours")
    assert stats.loss == pytest.approx(wanted_loss, abs=1e-5)
    assert distance(found, wanted) < 1e-5
    # else this would tell nothing of the clip
    assert (stats.clipped > 0) == (settings.objective.surrogate != "sapo")
    plain = config(
        objective={"answer_term": 0.0, "aggregate": settings.objective.aggregate},
        solver={"max_tokens": LONGEST, "group_size": SIZE},
    )
    other = PolicyLearner({"solver": tiny_model(vocab=VOCAB)}, plain, SPLICE, {})
    apart = gradients(other, our_groups(plain, stale=True), tmp_path / "plain")[0]
    same = {"surrogate", "dual_clip"}.isdisjoint(ours)
    assert (distance(apart, wanted) < 1e-5) == same  # and nothing of what it is named for


@pytest.mark.parametrize(
    ("kind", "cap", "weigh"),
    [
        ("token", 1.1, lambda gaps: gaps.exp().clamp(max=1.1)),
        ("sequence_mask", 2.0, lambda gaps: _masked(gaps.sum(1, keepdim=True).exp(), 2.0)),
    ],
)
def test_the_correction_multiplies_the_loss_where_trls_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    cap: float,
    weigh: Callable[[Tensor], Tensor],
):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    seen: list[Tensor] = []
    wanted_loss, wanted = trl_step(tmp_path / "trl", weigh=lambda gaps: _kept(weigh(gaps), seen))
    assert len(set(seen[0].flatten().tolist())) > 1  # some are cut, some are not
    asked = {"answer_term": 0.0, "correction": kind, "correction_cap": cap}
    settings = config(objective=asked)
    trained = PolicyLearner({"solver": tiny_model(vocab=VOCAB)}, settings, SPLICE, {})
    found, stats = gradients(trained, our_groups(settings), tmp_path / "ours")
    assert stats.loss == pytest.approx(wanted_loss, abs=1e-5)
    assert distance(found, wanted) < 1e-5


def _masked(ratio: Tensor, cap: float) -> Tensor:
    return torch.where(ratio > cap, 0.0, ratio)


def _kept(weights: Tensor, seen: list[Tensor]) -> Tensor:
    seen.append(weights)
    return weights
