"""The size of an optimiser step: what it peaks at, and how it rises and falls."""

import pytest
import torch

from pipeline.config import LearnerConfig, RunConfig
from pipeline.learning.spread.whole import Whole
from pipeline.learning.trainee import Trainee, step_size
from tests.tiny import tiny_model


@pytest.mark.parametrize(
    ("model", "rate", "expected"),
    [
        ({}, 0.0, 1e-3),
        ({"base": "folder"}, 0.0, 1e-6),
        ({"base": "folder", "lora_rank": 8}, 0.0, 1e-5),
        ({"base": "folder"}, 2e-4, 2e-4),
    ],
)
def test_a_step_size_that_is_not_set_suits_what_trains(model, rate, expected):
    asked = RunConfig.model_validate({"model": model, "learner": {"learning_rate": rate}})
    assert asked.peak_rate == expected


def test_the_step_size_rises_then_falls_in_a_straight_line_and_stays():
    config = LearnerConfig(warmup=2, final_share=0.2)
    sizes = [step_size(1.0, config, update, 9) for update in range(1, 12)]
    # the fall from 1 to 0.2 takes 0.1 a step; the first step is halved by the warm-up
    by_hand = [0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2, 0.2]
    assert sizes == pytest.approx(by_hand, abs=1e-9)
    level = LearnerConfig(warmup=0, final_share=1.0)
    assert {step_size(1e-3, level, update, 9) for update in (1, 5, 9, 20)} == {1e-3}


def test_the_copy_that_computes_in_bfloat16_keeps_the_rotary_frequencies_exact():
    config = RunConfig.model_validate({"model": {"train_dtype": "bfloat16"}})
    model = tiny_model()
    trainee = Trainee("solver", model, config)
    kept = dict(model.named_buffers())
    assert isinstance(trainee.held, Whole)
    copied = {n.removeprefix("model."): b for n, b in trainee.held.scorer.named_buffers()}
    assert {weight.dtype for weight in trainee.held.computing} == {torch.bfloat16}
    assert copied.keys() == kept.keys() != set()
    assert all(copied[name].equal(kept[name]) for name in kept)
