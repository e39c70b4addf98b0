"""One step from stored groups: its loss and gradient against explicit sums and against TRL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Qwen3ForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from pipeline.config import RunConfig
from pipeline.learning.learner import PolicyLearner
from pipeline.models.policy import copy_weights, merged_state
from pipeline.offline import OBJECTIVES, log_partition
from pipeline.ports import NonFinite
from pipeline.quantiles import quantiles
from pipeline.types import Evidence, Judged, Transcript, UpdateStats
from tests.pipeline.credits import (
    OPEN,
    SPLICE,
    config,
    distance,
    plain_logprobs,
    random_groups,
    reference_ids,
)
from tests.tiny import tiny_model, tiny_tokenizer

OFFLINE = {"source": "run", "upto": 1, "beta": 0.3}


def settings(objective: str, **sections: dict[str, object]) -> RunConfig:
    offline = {**OFFLINE, "objective": objective}
    return config(offline=offline, generator={"kind": "none"}, **sections)


def groups(seed: int = 0) -> list[Judged]:
    """Random groups of three: a best, a middle and a worst one, the worst malformed."""
    made = []
    for number, one in enumerate(random_groups(seed)):
        group = one.judged.group
        rows = tuple(replace(r, id=f"{number}-{i}") for i, r in enumerate(group.rollouts))
        forms = (Transcript("ok"), Transcript("ok"), Transcript("unclosed"))
        told = tuple(
            Evidence("measured", "proxy@0", (-loss,), (-2.0,), 3) if loss else
            Evidence("malformed", "proxy@0")
            for loss in (0.5, 1.5, 0.0)
        )  # fmt: skip
        whole = replace(group, id=str(number), rollouts=rows, transcripts=forms)
        made.append(Judged(whole, told, (0, 1, 2), (0.9, 0.4, 0.0)))
    return made


def start() -> Qwen3ForCausalLM:
    """Weights a little off the policy's, so that no g is 0."""
    model = tiny_model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.05)
    return model


def learner(asked: RunConfig) -> PolicyLearner:
    """A learner whose policy has moved on since it started."""
    model = start()
    made = PolicyLearner({"solver": model}, asked, SPLICE, {})
    copy_weights(model, merged_state(tiny_model()))
    return made


def studied(
    asked: RunConfig, judged: Sequence[Judged], folder: Path
) -> tuple[dict[str, Tensor], UpdateStats]:
    """The gradient of a step, read from AdamW's first moment in a checkpoint."""
    trained = learner(asked)
    stats = trained.study(judged, step=1)["solver"]
    folder.mkdir()
    trained.save(folder)
    moments = load_file(folder / "solver.moments.safetensors")
    kept = 1.0 - asked.learner.betas[0]
    named = {k.removeprefix("exp_avg."): v / kept for k, v in moments.items() if "avg." in k}
    return named, stats


def written(model: nn.Module, one: Judged, seat: int) -> Tensor:
    """Log-probabilities of what a rollout wrote, by a pass over it alone."""
    item = one.group.rollouts[seat]
    return plain_logprobs(model, item.tokens)[item.written.index(True) - 1 :]


def by_hand(name: str, judged: Sequence[Judged]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of a step, by one forward pass per rollout."""
    model = tiny_model()
    loss = explicit(name, judged, model)
    loss.backward()
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), named


def explicit(name: str, judged: Sequence[Judged], model: nn.Module) -> Tensor:
    first, beta = start(), 0.3

    def gap(one: Judged, seat: int) -> Tensor:
        return written(model, one, seat).sum() - written(first, one, seat).sum().detach()

    if name == "qrpo":
        told = [
            (q - beta * log_partition(beta) - beta * gap(one, seat)) ** 2
            for one in judged
            for seat, q in enumerate(quantiles(one.rewards))
        ]
        return torch.stack(told).mean()
    if name == "dpo":
        pairs = [beta * (gap(one, 0) - gap(one, 2)) for one in judged]
        return -torch.nn.functional.logsigmoid(torch.stack(pairs)).mean()
    if name == "best_sft":
        return -torch.cat([written(model, one, 0) for one in judged]).mean()
    return -torch.cat([said(model, one) for one in judged]).mean()


def said(model: nn.Module, one: Judged) -> Tensor:
    """Log-probabilities of the reference and its closing tag behind the best reasoning."""
    tokens = before_answer(one) + reference_ids(one.group.task)
    return plain_logprobs(model, tokens)[len(before_answer(one)) - 1 :]


def before_answer(one: Judged) -> tuple[int, ...]:
    """What the best rollout read and wrote, up to and with its opening answer tag."""
    item = one.group.rollouts[0]
    return item.tokens[: item.tokens.index(OPEN, item.written.index(True)) + 1]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_is_the_explicit_loss_over_single_rows(name: str, tmp_path: Path) -> None:
    loss, wanted = by_hand(name, groups())
    found, stats = studied(settings(name), groups(), tmp_path / "a")
    assert stats.loss == pytest.approx(loss, rel=1e-5)
    assert distance(found, wanted) < 1e-5
    assert stats.loss == stats.policy_loss + stats.answer_loss
    assert stats.rows == {"qrpo": 9, "sft": 3, "best_sft": 3, "dpo": 6}[name]


@pytest.mark.parametrize("budget", [1, 25, 60])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_how_a_step_is_split_does_not_matter(name: str, budget: int, tmp_path: Path) -> None:
    whole, one = studied(settings(name), groups(1), tmp_path / "a")
    asked = settings(name, learner={"token_budget": budget})
    split, two = studied(asked, groups(1), tmp_path / "b")
    assert distance(split, whole) < 1e-5  # of float32 sums in another order
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert (two.tokens, two.rows) == (one.tokens, one.rows)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_order_of_groups_does_not_matter(name: str, tmp_path: Path) -> None:
    one, _ = studied(settings(name), groups(2), tmp_path / "a")
    other, _ = studied(settings(name), groups(2)[::-1], tmp_path / "b")
    assert distance(other, one) < 1e-6


def test_kl_is_the_mean_of_log_p_less_log_p0_over_completions(tmp_path: Path) -> None:
    judged, now, then = groups(), tiny_model(), start()
    gaps = [
        float((written(now, one, i).sum() - written(then, one, i).sum()).detach())
        for one in judged for i in range(3)
    ]  # fmt: skip
    _, stats = studied(settings("qrpo"), judged, tmp_path / "a")
    assert stats.kl == pytest.approx(sum(gaps) / len(gaps), rel=1e-5)


@pytest.mark.parametrize("name", ["qrpo", "dpo"])
def test_before_the_first_step_nothing_has_moved(name: str) -> None:
    trained = PolicyLearner({"solver": tiny_model()}, settings(name), SPLICE, {})
    stats = trained.study(groups(), step=1)["solver"]
    assert stats.kl == 0.0
    if name == "dpo":
        assert stats.loss == pytest.approx(0.693147, abs=1e-6)
    assert trained.versions()["solver"].id == "solver@1"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_in_bfloat16_a_step_learns_too(name: str) -> None:
    asked = settings(name, model={"train_dtype": "bfloat16"}, learner={"learning_rate": 1e-4})
    trained = PolicyLearner({"solver": tiny_model()}, asked, SPLICE, {})
    losses = [trained.study(groups(), step=n)["solver"].loss for n in range(1, 9)]
    assert losses[-1] < losses[0]


def test_where_no_group_teaches_the_version_grows_and_the_weights_stay() -> None:
    equal = [replace(one, rewards=(0.5, 0.5, 0.5)) for one in groups()]
    trained = PolicyLearner({"solver": tiny_model()}, settings("dpo"), SPLICE, {})
    before = trained.versions()["solver"]
    stats = trained.study(equal, step=1)["solver"]
    after = trained.versions()["solver"]
    assert (stats.rows, stats.dead_groups, stats.loss) == (0, 3, 0.0)
    assert (after.id, after.checksum) == ("solver@1", before.checksum)


def test_a_rollout_that_opens_no_answer_is_told_and_left_out() -> None:
    judged = groups()
    [first, *rest] = judged[0].group.rollouts
    closed = replace(first, tokens=tuple(2 if t == OPEN else t for t in first.tokens))
    judged[0] = replace(judged[0], group=replace(judged[0].group, rollouts=(closed, *rest)))
    trained = PolicyLearner({"solver": tiny_model()}, settings("sft"), SPLICE, {})
    stats = trained.study(judged, step=1)["solver"]
    assert (stats.rows, stats.unspliced, stats.dead_groups) == (2, 1, 1)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    trained = PolicyLearner({"solver": tiny_model()}, settings("qrpo"), SPLICE, {})
    before = trained.versions()["solver"]
    judged = groups()
    with torch.no_grad():
        next(iter(trained.state("solver").values()))[5] = float("nan")
    with pytest.raises(NonFinite, match="weights stay at solver@0"):
        trained.study(judged, step=1)
    assert trained.versions()["solver"] == before


def check_ours_is_theirs(
    name: str, loss: Tensor, model: nn.Module, judged: Sequence[Judged], folder: Path
) -> None:
    loss.backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found, stats = studied(settings(name), judged, folder)
    assert stats.loss == pytest.approx(float(loss.detach()), abs=1e-5)
    assert distance(found, wanted) < 1e-5


def test_dpo_is_trls(tmp_path: Path) -> None:
    judged = groups()
    rows = [
        {
            "prompt_ids": [t for t, w in zip(best.tokens, best.written, strict=True) if not w],
            "chosen_ids": [t for t, w in zip(best.tokens, best.written, strict=True) if w],
            "rejected_ids": [t for t, w in zip(worst.tokens, worst.written, strict=True) if w],
        }
        for one in judged
        for best, worst in [(one.group.rollouts[0], one.group.rollouts[2])]
    ]
    asked = DPOConfig(
        output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, bf16=False, beta=0.3,
        gradient_checkpointing=False, max_length=None,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=tiny_model(), ref_model=start(), args=asked,
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    check_ours_is_theirs("dpo", loss, trainer.model, judged, tmp_path / "ours")


@pytest.mark.parametrize("name", ["sft", "best_sft"])
def test_supervision_is_trls(name: str, tmp_path: Path) -> None:
    judged = groups()
    rows = []
    for one in judged:
        best = one.group.rollouts[0]
        context = list(before_answer(one)) if name == "sft" else []
        context = context or list(best.tokens[: best.written.index(True)])
        text = [*context, *reference_ids(one.group.task)] if name == "sft" else list(best.tokens)
        masked = [-100] * len(context) + text[len(context) :]
        rows.append({"input_ids": text, "labels": masked})
    asked = SFTConfig(
        output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, max_length=None,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=tiny_model(), args=asked, train_dataset=Dataset.from_list([{"text": "a"}]),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    check_ours_is_theirs(name, loss, trainer.model, judged, tmp_path / "ours")
