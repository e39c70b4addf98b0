from __future__ import annotations

from pathlib import Path

import pytest

from flows.assemble import assemble
from flows.errors import REFUSED, Refusal, explain
from flows.settings import change_config, load_config, template
from pipeline.config import RunConfig
from pipeline.rewards.checks import Contradiction


def refused(*changes: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        load_config(None, list(changes))
    return caught.value


def test_the_commented_file_loads_back_to_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "coclimb.toml"
    file.write_text(template())
    assert load_config(file, []) == RunConfig()


def test_every_setting_is_explained_in_the_commented_file() -> None:
    lines = template().splitlines()
    keys = [n for n, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(keys) > 50
    assert all(lines[n - 1].startswith("# ") for n in keys)


def test_changes_win_over_the_file_and_keep_their_type(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("rounds = 2\n[solver]\ntasks = 3\n")
    config = load_config(file, ["solver.tasks=5", "sync.gated=true", "model.base=/a folder"])
    assert (config.rounds, config.solver.tasks, config.sync.gated) == (2, 5, True)
    assert config.model.base == "/a folder"


def test_every_problem_is_told_at_once_with_the_key_that_was_meant() -> None:
    error = refused(
        "reward.nam=rank", "solver.group_size=1", "learning_rate=1.0", "reward.name=nove",
        "rounds='4'", "solver.tasks=true", "learner.learning_rate=nan",
    )  # fmt: skip
    assert len(error.problems) == 7
    (name,) = [told for told in error.problems if told.startswith("reward.name: expected 'nover'")]
    assert name.endswith(", not 'nove'; did you mean 'nover'?")
    for told in (
        "reward.nam: there is no such key; did you mean reward.name?",
        "learning_rate: there is no such key; did you mean learner.learning_rate?",
        "solver.group_size: should be greater than or equal to 2, not 1",
        "rounds: should be a valid integer, not '4'",
        "solver.tasks: should be a valid integer, not True",
        "learner.learning_rate: should be a finite number, not nan",
    ):
        assert told in error.problems


def test_a_moment_that_never_decays_is_refused_before_anything_is_loaded() -> None:
    assert refused("learner.betas=[0.9, 1.0]").problems == (
        "learner.betas.1: should be less than 1, not 1.0",
    )


def test_a_contradiction_comes_with_its_remedy() -> None:
    (problem,) = refused("solver.frozen=true", "generator.kind=none").problems
    assert "nothing would train; unfreeze one" in problem


def test_a_solver_is_not_frozen_by_word_alone_on_weights_that_the_generator_trains() -> None:
    (problem,) = refused("solver.frozen=true").problems
    assert 'use model.generator="own"' in problem
    assert load_config(None, ["solver.frozen=true", "model.generator=own"]).solver.frozen
    assert load_config(None, ["generator.frozen=true"]).model.generator == "shared"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"rounds = = 2", "not TOML"),
        (b"rounds = 1\nrounds = 2\n", "not TOML"),
        (b"# \xff", "not TOML"),
        (b"#" * (2**20 + 1), "bytes"),
        (b"a = " + b"[" * 5000, "not TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, text: bytes, told: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(text)
    with pytest.raises(Refusal, match=told) as caught:
        load_config(file, [])
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("change", ["solver", "=3", "solver.=3", ".a=3"])
def test_a_change_that_is_no_key_and_value_is_refused(change: str) -> None:
    assert "expected key=value" in str(refused(change))


def test_a_fork_may_change_how_it_climbs_but_not_what_its_checkpoint_holds() -> None:
    changed = change_config(RunConfig(), ["learner.learning_rate=5e-5", "sync.rule=never"])
    assert changed.learner.learning_rate == 5e-5
    with pytest.raises(Refusal, match="cannot change these") as caught:
        change_config(RunConfig(), ["model.lora_rank=4", "model.base=other", "data.seed_depth=1"])
    assert len(caught.value.problems) == 3


def test_a_fork_counts_its_steps_as_its_parent_did() -> None:
    # with 10 steps a round, round 3 after two rounds of 20 would begin at step 21 again
    with pytest.raises(Refusal, match="steps is 10, the checkpoint was made with 20"):
        change_config(RunConfig(), ["steps=10"])


def test_rewards_that_exclude_their_noise_are_refused_before_a_model_is_looked_for() -> None:
    settings = load_config(None, ["reward.noise=0.1", "model.base=no/such/base"])
    with pytest.raises(Contradiction, match="'nover' does not keep to") as refusal:
        assemble(settings)
    assert explain(refusal.value)[0] == REFUSED
