"""How much likelier attempts have become: read by a meter, priced by a reward."""

from __future__ import annotations

import math

import pytest

from agents.solver import SamplingSolver
from agents.verifiers.start import Start
from pipeline.config import RewardConfig, SolverConfig
from pipeline.engine.scripted import ScriptedEngine
from pipeline.measures import NotMeasurable
from pipeline.rewards.divergence import divergence_terms
from pipeline.types import Evidence, Group, Reading, Task, Transcript
from tests.agents.attempts import PROMPTS, local, tools
from tests.pipeline.credits import rollout

TASK = Task("t", "question", "7", "human")


def weigh(before: tuple[int, ...], target: tuple[int, ...]) -> tuple[float, ...]:
    """The starting weights: a token's log-probability is -token/10."""
    assert before == (10, 11)
    return tuple(-token / 10 for token in target)


def read(*completions: tuple[tuple[int, ...], tuple[float, ...]]) -> tuple[Reading, ...]:
    rollouts = tuple(rollout((10, 11), text, logprobs=told) for text, told in completions)
    group = Group("g", "solver", TASK, rollouts, (Transcript("empty"),) * len(rollouts))
    engine = ScriptedEngine(lambda prompt, seed: (), weigh, version="solver@0")
    [readings] = Start(tools(engine, context=6)).read([group])
    return readings


def test_the_start_is_read_per_written_token_whatever_the_form():
    first, second = read(((20, 30), (-1.5, -3.5)), ((5,), (-0.5,)))
    assert (first.source, first.version, first.status) == ("start", "solver@0", "measured")
    assert first.values == pytest.approx((0.5, -0.5))
    assert second.values == pytest.approx((0.0,))


def test_nothing_written_is_malformed_and_a_row_over_the_context_is_too_long():
    told = read(((), ()), ((20, 30, 40, 50, 60), (-1.0,) * 5), ((20,), (-2.0,)))
    assert [one.status for one in told] == ["malformed", "too_long", "measured"]
    assert told[2].values == pytest.approx((0.0,))


def test_an_untrained_policy_has_not_moved():
    engine = local()
    solver = SamplingSolver(engine, PROMPTS, SolverConfig(max_tokens=20), 300)
    groups = solver.attempt([TASK], [[1, 2]], ["g"])
    for reading in Start(tools(engine)).read(groups)[0]:
        assert reading.values == pytest.approx((0.0,) * len(reading.values), abs=2e-5)


def test_a_log_probability_that_is_not_finite_is_no_reading():
    assert read(((20,), (math.nan,)))[0].status == "score_error"


def test_attempts_sampled_at_another_temperature_are_refused():
    with pytest.raises(ValueError, match=r"solver\.temperature is 0\.7"):
        Start(tools(ScriptedEngine(lambda prompt, seed: ()), temperature=0.7))


def test_the_price_is_the_sum_over_tokens_of_what_they_have_gained():
    gaps = [(0.5, -0.25, 0.25), (-1.0,), (0.0,)]
    evidence = [
        Evidence(status, "proxy@0", readings=(Reading("start", "s@0", "measured", row),))
        for status, row in zip(("measured", "malformed", "measured"), gaps, strict=True)
    ]
    terms = divergence_terms(evidence, RewardConfig())
    assert terms["reasoning"] == (-0.5, 1.0, 0.0)
    assert terms["form"] == (1.0, 0.0, 1.0)
    assert terms["raw"] == (0.0, 0.0, 0.0)


def test_a_start_that_was_not_read_is_no_price_of_0():
    with pytest.raises(NotMeasurable, match="'start'"):
        divergence_terms([Evidence("measured", "proxy@0", (-1.0,))], RewardConfig())
