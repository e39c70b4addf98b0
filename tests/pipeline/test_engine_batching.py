"""Continuous batching beside the local engine, over the same tiny random weights."""

from __future__ import annotations

import threading

import pytest
import torch

from pipeline.engine.batching import BatchingEngine, BatchingFailed, Room
from pipeline.engine.local import LocalEngine
from pipeline.models.policy import borrowed, merged_state
from pipeline.ports import SampleRequest, ScoreRequest
from tests.tiny import tiny_model

ENDS = frozenset({1, 2, 3})
REQUESTS = [
    SampleRequest(tuple(range(4, 4 + length)), tuple(range(10 * length, 10 * length + seeds)))
    for length, seeds in ((40, 3), (1, 2), (70, 1), (12, 0), (40, 2))
]


def local(seed: int = 0, dtype: torch.dtype = torch.float32) -> LocalEngine:
    model = borrowed(
        tiny_model(seed, vocab=90), merged_state(tiny_model(seed, vocab=90)), dtype, "cpu"
    )
    return LocalEngine(model, eos_ids=ENDS, pad_id=0, version="solver@0")


def batching(room: Room | None = None, dtype: torch.dtype = torch.float32) -> BatchingEngine:
    model = borrowed(tiny_model(vocab=90), merged_state(tiny_model(vocab=90)), dtype, "cpu")
    twin = borrowed(model, merged_state(model), dtype, "cpu")
    inner = LocalEngine(model, eos_ids=ENDS, pad_id=0, version="solver@0")
    return BatchingEngine(inner, twin, ENDS, room)


def test_every_rollout_is_the_local_engines_own_whatever_shares_its_batch() -> None:
    wanted = local().sample(REQUESTS, max_tokens=24, temperature=0.8)
    found = batching(Room(rows=4, tokens=48)).sample(REQUESTS, max_tokens=24, temperature=0.8)
    assert [[(s.tokens, s.stop) for s in group] for group in found] == [
        [(s.tokens, s.stop) for s in group] for group in wanted
    ]
    assert {s.stop for group in found for s in group} == {"end", "length"}
    for ours, theirs in zip(found, wanted, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    alone = batching().sample(REQUESTS[:1], max_tokens=24, temperature=0.8)
    assert [s.tokens for s in alone[0]] == [s.tokens for s in found[0]]


def test_log_probabilities_are_those_of_the_whole_distribution() -> None:
    engine = batching()
    [group] = engine.sample(REQUESTS[:1], max_tokens=16, temperature=1.0)
    request = ScoreRequest(REQUESTS[0].prompt, ((),), (tuple(s.tokens for s in group),))
    [(scored,)] = local().score([request])
    for sample, logprobs in zip(group, scored, strict=True):
        assert sample.logprobs == pytest.approx(logprobs, abs=1e-5)
    assert engine.score([request]) == local().score([request])
    assert engine.confide([request]) == local().confide([request])


def test_without_chance_it_takes_the_most_probable_token() -> None:
    ours = batching().sample(REQUESTS[:2], max_tokens=8, temperature=0.0)
    theirs = local().sample(REQUESTS[:2], max_tokens=8, temperature=0.0)
    assert [[s.tokens for s in group] for group in ours] == [
        [s.tokens for s in group] for group in theirs
    ]


def test_the_same_call_gives_the_same_answer_and_leaves_chance_alone() -> None:
    engine, before = batching(dtype=torch.bfloat16), torch.get_rng_state()
    first = engine.sample(REQUESTS, max_tokens=16, temperature=1.0)
    assert engine.sample(REQUESTS, max_tokens=16, temperature=1.0) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert [t.name for t in threading.enumerate() if "generation_loop" in t.name] == []


def test_what_is_loaded_answers_from_then_on_under_its_version() -> None:
    engine = batching()
    engine.sample(REQUESTS, max_tokens=8, temperature=1.0)
    engine.load(merged_state(tiny_model(5, vocab=90)), "solver@7")
    assert engine.version == "solver@7"
    found = engine.sample(REQUESTS, max_tokens=8, temperature=1.0)
    wanted = local(5).sample(REQUESTS, max_tokens=8, temperature=1.0)
    assert [[s.tokens for s in group] for group in found] == [
        [s.tokens for s in group] for group in wanted
    ]


def test_what_cannot_be_sampled_is_refused_before_anything_starts() -> None:
    engine = batching()
    assert engine.sample([], max_tokens=4, temperature=1.0) == []
    assert engine.sample([SampleRequest((5,), ())], max_tokens=4, temperature=1.0) == [()]
    with pytest.raises(ValueError, match="the prompt is empty"):
        engine.sample([SampleRequest((), (1,))], max_tokens=4, temperature=1.0)
    with pytest.raises(ValueError, match="the model reads 512"):
        engine.sample([SampleRequest((5,) * 510, (1,))], max_tokens=4, temperature=1.0)


def test_a_library_that_gives_up_is_told_of_and_leaves_no_thread() -> None:
    twin, threads = tiny_model(vocab=90), threading.active_count()
    twin.lm_head.to(torch.float64)  # a fault within the library's thread
    engine = BatchingEngine(local(), twin, ENDS)
    with pytest.raises(BatchingFailed, match="continuous batching"):
        engine.sample(REQUESTS, max_tokens=4, temperature=1.0)
    assert threading.active_count() == threads
