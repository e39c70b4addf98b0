"""Recipes: each is a configuration, and a step with it learns."""

from __future__ import annotations

import pytest

from flows.errors import Refusal
from flows.settings import load_config, settings_of
from pipeline.advantages import credit
from pipeline.config import RunConfig
from pipeline.learning.learner import PolicyLearner
from pipeline.recipes import RECIPES
from pipeline.rewards import judge
from pipeline.types import Credited, Evidence, Judged, Reading
from tests.pipeline.credits import SPLICE, random_groups
from tests.tiny import tiny_model

LABELS = (1.0, 0.0, 0.0)


def config_of(name: str, *more: str) -> RunConfig:
    return load_config(None, [*settings_of(name), *more])


def measured(credited: Credited) -> tuple[Evidence, ...]:
    """Evidence of a group's three attempts, each with the readings that a recipe may ask for.

    The first is the surest, right and the likeliest under its own reasoning; the last is malformed.
    """
    found = []
    for seat, rollout in enumerate(credited.judged.group.rollouts):
        written = sum(rollout.written)
        told = (
            ("rule", (LABELS[seat],) * 3, ()),
            ("start", (0.1 * (seat + 1),) * written, ()),
            ("steps", (0.9 - 0.4 * seat,), (written,)),
        )
        readings = tuple(
            Reading(source, "meter@0", "measured", values, at) for source, values, at in told
        )
        given, bare = (-0.1 - seat, -0.2 - seat), (-1.5, -2.5)
        found.append(Evidence("measured", "proxy@0", given, bare, 10 + 5 * seat, readings=readings))
    *well, last = found
    return (*well, Evidence("malformed", "proxy@0", detail="truncated", readings=last.readings))


def judged_by(config: RunConfig, seed: int = 4) -> list[Judged]:
    return [judge(one.judged.group, measured(one), config.reward) for one in random_groups(seed)]


# by reward, what the surest, the less sure and the malformed attempt earn before the divergence
PAID = {
    "nover": (2.1, 1.5, 0.0),  # form 1, rank 1 and 1/2, the first shorter too: a tenth for it
    "rule": (1.0, 0.0, 0.0),
    # the mean probability: (e^-.1 + e^-.2) / 2 and (e^-1.1 + e^-1.2) / 2
    "mean_probability": (0.861784, 0.317033, 0.0),
    "verifree": (0.740818, 0.100259, 0.0),  # the product: e^-.3 and e^-2.3
    # nine tenths of what the mean is above (e^-1.5 + e^-2.5) / 2 = 0.152608, a tenth for the form
    "rlpr": (0.738259, 0.247983, 0.0),
}
OWN = {"nover": (3.0, 1.5, 0.0)}  # by recipe: NOVER's paper has efficiency at weight 1
KL = {"rloo": 0.05, "reinforce_pp": 0.01, "reinforce_pp_baseline": 0.01}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_step_by_every_recipe_moves_the_weights(name: str):
    config = config_of(name, "model.train_dtype=float32")
    judged = judged_by(config)
    assert all(one.kept == (0, 1, 2) for one in judged)
    greedy = {"t": 0.5}  # what the attempt without chance earned
    groups = credit(judged, config.objective, greedy)
    learner = PolicyLearner({"solver": tiny_model()}, config, SPLICE, {})
    before = learner.versions()["solver"].checksum
    stats = learner.step(groups, step=1)["solver"]
    assert stats.rows > 0
    assert stats.grad_norm > 0
    assert learner.versions()["solver"].checksum != before


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_pays_by_its_own_reward(name: str):
    config = config_of(name)
    paid = OWN.get(name, PAID[config.reward.name])
    for one in judged_by(config):
        spent = [
            0.1 * (seat + 1) * sum(rollout.written)  # k1 of each written token
            for seat, rollout in enumerate(one.group.rollouts)
        ]
        earned = [value - KL.get(name, 0.0) * cost for value, cost in zip(paid, spent, strict=True)]
        assert one.rewards == pytest.approx(earned, abs=1e-6)


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
