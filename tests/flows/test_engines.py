"""The engines that a configuration asks for, over the base that ships."""

from __future__ import annotations

import pytest

from flows.bases import Bases
from flows.engines import Engines
from pipeline.config import ModelConfig, RunConfig
from pipeline.engine.batching import BatchingEngine
from pipeline.engine.local import LocalEngine
from pipeline.engine.parity import Paired
from pipeline.ports import SampleRequest

BASES = Bases(ModelConfig(engine_dtype="float32"))


def engines(**engine: object) -> Engines:
    return Engines(BASES, RunConfig.model_validate({"model": BASES.config, "engine": engine}))


def test_an_engine_that_is_not_the_local_one_is_compared_and_the_local_one_is_not() -> None:
    made = engines(sampler="batching")
    sampler = made.sampler("solver")
    assert isinstance(sampler, Paired)
    ask = [SampleRequest(tuple(range(20, 60)), (1, 2))]
    found = sampler.sample(ask, max_tokens=12, temperature=1.0)
    [parity] = made.parities
    assert (parity.engine, parity.line, parity.version) == ("batching", "solver", "solver@0")
    assert parity.accepted
    wanted = engines().sampler("solver")
    assert isinstance(wanted, LocalEngine)
    told = wanted.sample(ask, max_tokens=12, temperature=1.0)
    assert [s.tokens for s in found[0]] == [s.tokens for s in told[0]]


def test_nothing_is_compared_where_the_configuration_asks_for_no_parity() -> None:
    made = engines(sampler="batching", parity=False)
    assert isinstance(made.sampler("generator"), BatchingEngine)
    assert made.parities == []


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-4), ("bfloat16", 0.5)])
def test_the_limits_are_those_of_the_weights_format(dtype, limit: float) -> None:
    against = engines().against("served", "proxy", dtype)
    assert against.limits.difference == limit
    assert engines(parity_difference=0.3).against("x", "solver", dtype).limits.difference == 0.3


def test_prompts_fit_the_context_that_a_served_engine_is_given() -> None:
    probe = engines(sampler="vllm", context=96).against("vllm", "solver", "float32").probe
    assert {len(prompt) for prompt in probe.prompts} == {64}


def test_the_reference_reads_the_weights_it_is_handed_without_a_copy() -> None:
    state = BASES.state()
    engine = BASES.reading(state, "float32", "solver@reference")
    state["model.norm.weight"].mul_(2.0)
    try:
        ask = [SampleRequest((20, 21, 22), (1,))]
        [moved] = engine.sample(ask, max_tokens=1, temperature=1.0)
    finally:
        state["model.norm.weight"].mul_(0.5)
    [before] = engine.sample(ask, max_tokens=1, temperature=1.0)
    assert moved[0].logprobs != before[0].logprobs
