"""Recipes: each is a configuration, and a step with it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.errors import Refusal
from flows.settings import load_config, settings_of
from pipeline.advantages import credit
from pipeline.config import RunConfig
from pipeline.learner import PolicyLearner
from pipeline.recipes import RECIPES
from pipeline.types import Reading
from tests.pipeline.credits import SPLICE, random_groups
from tests.tiny import tiny_model

LABELS = (1.0, 0.0, 0.0)


def config_of(name: str, *more: str) -> RunConfig:
    return load_config(None, [*settings_of(name), *more])


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_step_by_every_recipe_moves_the_weights(name: str):
    config = config_of(name, "model.train_dtype=float32")
    judged = []
    for group in random_groups(4):
        written = [sum(one.written) for one in group.judged.group.rollouts]
        evidence = tuple(
            replace(item, readings=(Reading("steps", "judge@0", "measured", (score,), (count,)),))
            for item, score, count in zip(group.judged.evidence, LABELS, written, strict=True)
        )
        judged.append(
            replace(group.judged, evidence=evidence, rewards=LABELS, components={"raw": LABELS})
        )
    groups = credit(judged, config.objective, {"t": 0.5})
    learner = PolicyLearner({"solver": tiny_model()}, config, SPLICE, {})
    before = learner.versions()["solver"].checksum
    stats = learner.step(groups, step=1)["solver"]
    assert stats.rows > 0
    assert stats.grad_norm > 0
    assert learner.versions()["solver"].checksum != before


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_says_where_it_is_from_and_names_no_setting_twice(name: str):
    recipe = RECIPES[name]
    assert recipe.source.startswith("arXiv ")
    keys = [one.partition("=")[0] for one in recipe.settings]
    assert len(set(keys)) == len(keys)
    assert "objective.answer_term" in keys  # none of them has ours by accident


def test_two_recipes_are_never_the_same():
    assert len({frozenset(one.settings) for one in RECIPES.values()}) == len(RECIPES)


def test_what_is_set_wins_over_a_recipe_and_a_recipe_over_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[objective]\nadvantage = "opo"\nclip_high = 0.5\ncorrection_cap = 3.0\n')
    config = load_config(file, [*settings_of("dapo"), "objective.clip_high=0.3"])
    assert config.objective.advantage == "grpo"
    assert (config.objective.clip_high, config.objective.correction_cap) == (0.3, 3.0)


def test_a_recipe_that_is_not_there_is_refused_with_the_one_that_was_meant():
    with pytest.raises(Refusal, match="no such recipe; did you mean dapo") as told:
        settings_of("dapoo")
    assert "grpo, dr_grpo, dapo" in str(told.value.remedy)
    assert settings_of(None) == ()
