from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline import scorer
from pipeline.config import RunConfig
from pipeline.learning.learner import PolicyLearner
from pipeline.models.policy import wrap_lora
from pipeline.ports import NonFinite
from pipeline.types import Credited
from tests.pipeline.credits import (
    CLOSE,
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

PROMPT = (10, 11, 12)


def learner(settings: RunConfig, model: nn.Module | None = None) -> PolicyLearner:
    return PolicyLearner({"solver": model or tiny_model()}, settings, SPLICE, {})


def unbatched(
    groups: list[Credited], settings: RunConfig, start: nn.Module | None = None
) -> tuple[dict[str, Tensor], float]:
    """Loss and gradient by one forward pass per rollout and one per answer branch."""
    model, objective = tiny_model(), settings.objective
    live = [g for g in groups if not g.dead]
    written = sum(sum(r.written) for g in live for r in g.judged.group.rollouts)
    answers = [len(reference_ids(g.judged.group.task)) for g in live for w in g.answer_weights if w]
    loss = torch.zeros(())
    for group in live:
        task, temperature = group.judged.group.task, settings.solver.temperature
        for item, advantage, weight in zip(
            group.judged.group.rollouts, group.advantages, group.answer_weights, strict=True
        ):
            first = item.written.index(True)
            logprobs = plain_logprobs(model, item.tokens, temperature)[first - 1 :]
            loss = loss - advantage * torch.exp(logprobs - logprobs.detach()).sum() / written
            if start is not None:
                with torch.no_grad():
                    gap = plain_logprobs(start, item.tokens, temperature)[first - 1 :]
                gap = gap - logprobs
                loss = loss + objective.kl * (torch.exp(gap) - gap - 1).sum() / written
            if weight:
                prefix = item.tokens[: item.tokens.index(OPEN, first) + 1]
                said = plain_logprobs(model, prefix + reference_ids(task))[len(prefix) - 1 :]
                loss = loss - objective.answer_term * weight * said.sum() / sum(answers)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, float(
        loss.detach()
    )


def test_the_step_is_the_explicit_sum_over_single_rows(tmp_path: Path):
    settings, groups = config(solver={"temperature": 0.7}), random_groups()
    wanted, loss = unbatched(groups, settings)
    found, stats = gradients(learner(settings), groups, tmp_path / "a")
    assert distance(found, wanted) < 1e-6
    assert stats.loss == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("budget", [1, 25, 60, 100])
def test_the_gradient_is_the_same_under_any_token_budget(tmp_path: Path, budget: int):
    groups = random_groups(1)
    whole, _ = gradients(learner(config(learner={"token_budget": 10_000})), groups, tmp_path / "a")
    split, _ = gradients(learner(config(learner={"token_budget": budget})), groups, tmp_path / "b")
    assert distance(split, whole) < 1e-6


def test_the_vocabulary_head_in_chunks_gives_the_same_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    groups, settings = random_groups(1), config(solver={"temperature": 0.8})
    whole, _ = gradients(learner(settings), groups, tmp_path / "a")
    monkeypatch.setattr(scorer, "CHUNK", 5 * 64)  # five slots at a time
    split, _ = gradients(learner(settings), groups, tmp_path / "b")
    assert distance(split, whole) < 1e-6


def test_the_gradient_is_the_same_when_siblings_and_groups_change_seats(tmp_path: Path):
    groups = random_groups(2)
    turned = [
        credited(
            g.judged.group.rollouts[::-1],
            g.advantages[::-1],
            g.answer_weights[::-1],
            reference=g.judged.group.task.reference,
        )
        for g in groups[::-1]
    ]
    first, _ = gradients(learner(config()), groups, tmp_path / "a")
    second, _ = gradients(learner(config()), turned, tmp_path / "b")
    assert distance(second, first) < 1e-6


def test_the_padding_that_a_long_neighbour_brings_changes_nothing(tmp_path: Path):
    # the neighbour carries a zero advantage and is read only for a divergence weighed at nearly 0
    settings = config(objective={"kl": 1e-30, "answer_term": 0.0})
    short = [rollout(PROMPT, (20, 1)), rollout(PROMPT, (21, 22, 1))]
    long = rollout(tuple(range(2, 30)), (*range(2, 38), 1))
    alone, one = gradients(learner(settings), [credited(short, [1.0, -1.0])], tmp_path / "a")
    beside, two = gradients(
        learner(settings),
        [credited(short, [1.0, -1.0]), credited([long, long], [1e-30, 0.0])],
        tmp_path / "b",
    )
    scaled = {name: value * (two.tokens / one.tokens) for name, value in beside.items()}
    assert distance(scaled, alone) < 1e-6


def test_an_answer_branch_equals_the_reference_in_a_row_of_its_own(tmp_path: Path):
    # the branch alone: advantage 0, so its own row is prompt, reasoning, tag, reference
    settings = config()
    text = (20, 21, OPEN, 33, 34, CLOSE, 1)
    branch = credited([rollout(PROMPT, text)] * 2, [0.0, 0.0], [0.5, 0.25])
    found, stats = gradients(learner(settings), [branch], tmp_path / "a")
    wanted, loss = unbatched([branch], settings)
    assert distance(found, wanted) < 1e-6
    assert stats.answer_loss * settings.objective.answer_term == pytest.approx(loss, rel=1e-6)
    both = credited([rollout(PROMPT, text)] * 2, [1.0, -0.5], [0.5, 0.25])
    found, _ = gradients(learner(settings), [both], tmp_path / "b")
    assert distance(found, unbatched([both], settings)[0]) < 1e-6


def test_an_answer_term_of_zero_is_plain_nover(tmp_path: Path):
    groups = random_groups(3)
    plain = [credited(g.judged.group.rollouts, g.advantages) for g in groups]
    off, stats = gradients(learner(config(objective={"answer_term": 0.0})), groups, tmp_path / "a")
    none, _ = gradients(learner(config()), plain, tmp_path / "b")
    assert distance(off, none) == 0.0
    assert stats.answer_loss == 0.0


def test_dead_groups_leave_no_trace_in_the_gradient(tmp_path: Path):
    groups = random_groups(4)
    dead = credited([rollout(PROMPT, (20, 1))] * 2, [0.0, 0.0])
    with_dead, stats = gradients(learner(config()), [dead, *groups], tmp_path / "a")
    without, _ = gradients(learner(config()), groups, tmp_path / "b")
    assert distance(with_dead, without) == 0.0
    assert (stats.dead_groups, stats.rows) == (1, 9)


def test_nover_s_worked_loss_holds_on_the_first_step():
    # A +0.8 over 2 tokens, -0.8 over 3, ratio 1, no divergence yet: (-1.6 + 2.4) / 5 = 0.16
    group = credited([rollout(PROMPT, (20, 1)), rollout(PROMPT, (21, 22, 1))], [0.8, -0.8])
    stats = learner(config(objective={"kl": 0.1})).step([group], step=1)["solver"]
    assert stats.policy_loss == pytest.approx(0.16, abs=1e-6)
    assert stats.kl == pytest.approx(0.0, abs=1e-7)
    assert (stats.loss, stats.tokens, stats.clipped) == (pytest.approx(0.16, abs=1e-6), 5, 0.0)


def test_the_divergence_is_measured_from_the_starting_weights():
    settings = config(objective={"kl": 0.1, "answer_term": 0.0}, learner={"learning_rate": 1e-3})
    groups = random_groups(5)
    trained = learner(settings)
    trained.step(groups, step=1)
    state = dict(trained.state("solver"))
    model, start = tiny_model(), tiny_model()
    model.load_state_dict(state, strict=False)
    total, count = 0.0, 0
    for group in groups:
        for item in group.judged.group.rollouts:
            first = item.written.index(True)
            with torch.no_grad():
                gap = (plain_logprobs(start, item.tokens) - plain_logprobs(model, item.tokens))[
                    first - 1 :
                ]
            total += float((torch.exp(gap) - gap - 1).sum())
            count += len(gap)
    stats = trained.step(groups, step=2)["solver"]
    assert stats.kl == pytest.approx(total / count, rel=1e-4)
    assert stats.kl > 1e-4


def test_stale_rollouts_are_weighed_against_what_the_sampler_said():
    # sampled at log-probability -9 each, now far likelier: the ratio is beyond 1.28 and A > 0
    stale = rollout(PROMPT, (20, 1), version="solver@9", logprobs=(-20.0, -20.0))
    other = rollout(PROMPT, (21, 1), version="solver@9", logprobs=(-20.0, -20.0))
    stats = learner(config()).step([credited([stale, other], [1.0, 0.0])], step=1)["solver"]
    assert stats.clipped == 1.0
    assert stats.policy_loss == pytest.approx(-1.28 * 2 / 4)
    assert stats.mismatch > 5.0


def test_a_loss_that_is_not_finite_changes_nothing():
    trained = learner(config())
    trained.step(random_groups(6), step=1)
    before = {name: x.clone() for name, x in trained.state("solver").items()}
    bad = rollout(PROMPT, (20, 1), version="solver@9", logprobs=(float("nan"), -1.0))
    with pytest.raises(NonFinite, match="weights stay at solver@1"):
        trained.step([credited([bad, bad], [1.0, -1.0])], step=2)
    assert all(torch.equal(before[name], x) for name, x in trained.state("solver").items())
    assert trained.versions()["solver"].id == "solver@1"
    again = learner(config())
    again.step(random_groups(6), step=1)
    for other in (trained, again):
        other.step(random_groups(7), step=2)
    assert trained.versions() == again.versions()  # the moments were untouched too


def test_one_line_that_is_not_finite_holds_the_other_back():
    settings = config(model={"generator": "own"})
    trained = PolicyLearner(
        {"solver": tiny_model(), "generator": tiny_model(1)}, settings, SPLICE, {}
    )
    bad = rollout(PROMPT, (20, 1), version="solver@9", logprobs=(float("inf"), -1.0))
    before = trained.versions()
    with pytest.raises(NonFinite):
        trained.step([*random_groups(role="generator"), credited([bad, bad], [1.0, -1.0])], step=1)
    assert trained.versions() == before


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_a_restored_learner_takes_the_step_it_would_have_taken(tmp_path: Path, adapted: bool):
    def fresh() -> PolicyLearner:
        model = wrap_lora(tiny_model(), 4, 8.0) if adapted else tiny_model()
        return learner(config(learner={"warmup": 4}, objective={"kl": 0.05}), model)

    unbroken = fresh()
    for step in (1, 2):
        unbroken.step(random_groups(step), step=step)
    unbroken.save(tmp_path)
    resumed = fresh()
    torch.rand(3)
    resumed.restore(tmp_path)
    assert resumed.versions() == unbroken.versions()
    left = unbroken.step(random_groups(3), step=3)
    right = resumed.step(random_groups(3), step=3)
    assert left == right
    for name, weight in unbroken.state("solver").items():
        assert torch.equal(weight, resumed.state("solver")[name]), name
    assert unbroken.versions() == resumed.versions()
    assert unbroken.versions()["solver"].parents == ("solver@2",)


def test_restoring_puts_torch_s_random_state_back(tmp_path: Path):
    trained = learner(config())
    torch.manual_seed(5)
    trained.save(tmp_path)
    wanted = torch.rand(4)
    trained.restore(tmp_path)
    assert torch.equal(torch.rand(4), wanted)


def test_a_checkpoint_of_another_base_is_refused(tmp_path: Path):
    learner(config()).save(tmp_path)
    with pytest.raises(ValueError, match="began from other weights"):
        learner(config(), tiny_model(seed=1)).restore(tmp_path)


def test_lora_trains_its_adapters_alone():
    trained = learner(config(learner={"learning_rate": 1e-2}), wrap_lora(tiny_model(), 4, 8.0))
    trained.step(random_groups(), step=1)
    start, now = tiny_model().state_dict(), trained.state("solver")
    moved = {name for name, weight in now.items() if not torch.equal(weight, start[name])}
    assert moved
    assert all("proj" in name for name in moved)


def test_lora_trains_under_bfloat16_too():
    settings = config(model={"train_dtype": "bfloat16"}, learner={"learning_rate": 1e-2})
    trained = learner(settings, wrap_lora(tiny_model(), 4, 8.0))
    before = trained.versions()["solver"].checksum
    trained.step(random_groups(), step=1)
    assert trained.versions()["solver"].checksum != before


def test_the_step_size_warms_up_to_its_value():
    # AdamW's first step moves each weight by the step size: at 1 of 4 warm-up steps, a quarter
    trained = learner(config(learner={"warmup": 4, "learning_rate": 1e-3}))
    before = trained.state("solver")["model.norm.weight"].clone()
    trained.step(random_groups(), step=1)
    moved = (trained.state("solver")["model.norm.weight"] - before).abs()
    assert float(moved.max()) == pytest.approx(2.5e-4, rel=1e-2)


def test_roles_that_share_weights_add_up_by_the_generator_s_weight(tmp_path: Path):
    solver, proposals = random_groups(8), random_groups(9, role="generator")
    both, stats = gradients(
        learner(config(generator={"weight": 0.5})), [*solver, *proposals], tmp_path / "a"
    )
    left, one = gradients(learner(config()), solver, tmp_path / "b")
    right, two = gradients(learner(config()), proposals, tmp_path / "c")
    assert distance(both, {name: left[name] + 0.5 * right[name] for name in left}) < 1e-6
    assert stats.loss == pytest.approx(one.loss + 0.5 * two.loss, rel=1e-5)


def test_a_frozen_generator_on_shared_weights_leaves_the_solver_to_train(tmp_path: Path):
    solver, proposals = random_groups(8), random_groups(9, role="generator")
    frozen, stats = gradients(
        learner(config(generator={"frozen": True})), [*solver, *proposals], tmp_path / "a"
    )
    alone, only = gradients(learner(config()), solver, tmp_path / "b")
    assert distance(frozen, alone) == 0.0
    assert stats.rows == only.rows


@pytest.mark.parametrize(("frozen", "trains"), [("generator", "solver"), ("solver", "generator")])
def test_lines_of_their_own_train_on_their_own_groups(frozen: str, trains: str):
    settings = config(model={"generator": "own"}, **{frozen: {"frozen": True}})
    heard: list[tuple[str, str]] = []
    trained = PolicyLearner(
        {"solver": tiny_model(), "generator": tiny_model()},
        settings,
        SPLICE,
        {"generator": lambda state, version: heard.append(("generator", version))},
    )
    stats = trained.step([*random_groups(), *random_groups(role="generator")], step=1)
    trained.publish()
    assert set(stats) == {trains}
    ids = {line: v.id for line, v in trained.versions().items()}
    assert ids == {trains: f"{trains}@1", frozen: f"{frozen}@0"}
    assert heard == [("generator", ids["generator"])]


def test_published_weights_are_those_in_training():
    taken: dict[str, Tensor] = {}
    trained = PolicyLearner(
        {"solver": tiny_model()},
        config(),
        SPLICE,
        {"solver": lambda state, version: taken.update(state)},
    )
    trained.step(random_groups(), step=1)
    trained.publish()
    assert not torch.equal(
        taken["model.norm.weight"], tiny_model().state_dict()["model.norm.weight"]
    )


def test_a_step_without_anything_to_learn_moves_no_weight():
    trained = learner(config())
    before = trained.versions()["solver"]
    stats = trained.step([credited([rollout(PROMPT, (20, 1))] * 2, [0.0, 0.0])], step=1)["solver"]
    after = trained.versions()["solver"]
    assert (stats.rows, stats.dead_groups, stats.grad_norm) == (0, 1, 0.0)
    assert (after.id, after.parents, after.checksum) == ("solver@1", ("solver@0",), before.checksum)


def test_bfloat16_computes_nearly_the_same_gradient_into_float32_weights(tmp_path: Path):
    groups = random_groups()
    exact, _ = gradients(learner(config()), groups, tmp_path / "a")
    rough, _ = gradients(learner(config(model={"train_dtype": "bfloat16"})), groups, tmp_path / "b")
    assert {x.dtype for x in rough.values()} == {torch.float32}
    assert distance(rough, exact) < 0.05


def test_entropy_is_the_mean_over_written_tokens():
    group = credited([rollout(PROMPT, (20, 1)), rollout(PROMPT, (21, 22, 1))], [1.0, -1.0])
    model, entropies = tiny_model(), []
    for item in group.judged.group.rollouts:
        with torch.no_grad():
            logs = torch.log_softmax(
                model(input_ids=torch.tensor([item.tokens])).logits[0, 2:-1], -1
            )
        entropies += (-(logs.exp() * logs).sum(-1)).tolist()
    stats = learner(config()).step([group], step=1)["solver"]
    assert stats.entropy == pytest.approx(sum(entropies) / 5, rel=1e-5)


def test_models_that_do_not_match_the_config_are_refused():
    with pytest.raises(ValueError, match="needs the models"):
        PolicyLearner({"solver": tiny_model()}, config(model={"generator": "own"}), SPLICE, {})


def test_what_is_saved_is_safetensors_and_json(tmp_path: Path):
    trained = learner(config())
    trained.step(random_groups(), step=1)
    trained.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((tmp_path / "solver.json").read_text())["updates"] == 1
