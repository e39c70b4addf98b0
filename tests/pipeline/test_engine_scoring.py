from __future__ import annotations

import random

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from pipeline.engine.local import Limits, LocalEngine
from pipeline.models.policy import replica
from pipeline.ports import SampleRequest, ScoreRequest, Scores
from tests.tiny import tiny_model


def engine_of(model: PreTrainedModel, limits: Limits | None = None) -> LocalEngine:
    return LocalEngine(model, eos_ids=frozenset({1}), pad_id=0, version="proxy@0", limits=limits)


def naive(model: PreTrainedModel, requests: list[ScoreRequest]) -> list[Scores]:
    """One plain forward per target: no cache, no padding, no sharing."""

    def one(before: tuple[int, ...], target: tuple[int, ...]) -> tuple[float, ...]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([before + target])).logits[0].float()
        table = logits.log_softmax(-1)[len(before) - 1 : -1]
        return tuple(table[i, token].item() for i, token in enumerate(target))

    return [
        tuple(
            tuple(one(request.prompt + context, target) for target in targets)
            for context, targets in zip(request.contexts, request.targets, strict=True)
        )
        for request in requests
    ]


def text(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(2, 64) for _ in range(rng.randint(low, high)))


def ragged_requests(seed: int) -> list[ScoreRequest]:
    """Prompts, contexts and targets of all sizes; empty contexts, one-token targets, no targets."""
    rng = random.Random(seed)
    requests = []
    for _ in range(7):
        contexts = tuple(text(rng, 0, 12) for _ in range(rng.randint(1, 5)))
        targets = tuple(
            tuple(text(rng, 1, 6) for _ in range(rng.choice([0, 1, 1, 3]))) for _ in contexts
        )
        requests.append(ScoreRequest(text(rng, 1, 20), contexts, targets))
    return requests


def assert_same(found: list[Scores], expected: list[Scores], atol: float = 1e-5) -> None:
    assert [[[len(t) for t in c] for c in r] for r in found] == [
        [[len(t) for t in c] for c in r] for r in expected
    ]
    flat, wanted = (
        torch.tensor([p for r in scores for c in r for t in c for p in t])
        for scores in (found, expected)
    )
    torch.testing.assert_close(flat, wanted, atol=atol, rtol=0.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_are_those_of_one_plain_forward_per_target(seed: int) -> None:
    model, requests = tiny_model(), ragged_requests(seed)
    assert_same(engine_of(model).score(requests), naive(model, requests))


@pytest.mark.parametrize(
    "limits", [Limits(tokens=1), Limits(tokens=40), Limits(cache_bytes=1), Limits(logits=1)]
)
def test_bounds_change_batches_and_not_scores(limits: Limits) -> None:
    model, requests = tiny_model(), ragged_requests(4)
    assert_same(engine_of(model, limits).score(requests), engine_of(model).score(requests))


def test_scores_follow_their_requests_when_these_change_seats() -> None:
    engine, requests = engine_of(tiny_model()), ragged_requests(5)
    assert_same(engine.score(requests[::-1])[::-1], engine.score(requests))


def test_a_block_longer_than_one_stride_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, requests = tiny_model(), ragged_requests(6)
    monkeypatch.setattr("pipeline.engine.rows.STRIDE", 3)
    assert_same(engine_of(model).score(requests), naive(model, requests))


@pytest.mark.parametrize(
    "request_",
    [
        ScoreRequest((5,), ((),), (((9,),),)),  # nothing but one token before one token
        ScoreRequest((5,), ((), ()), (((9,), (8, 7)), ((4,),))),  # empty contexts, shared prompt
        ScoreRequest((), ((6,), (7, 8)), (((9,), (8,)), ((4, 5),))),  # empty prompt
        ScoreRequest((5, 6), ((7,), (7,)), (((9,),), ((9,),))),  # twins
    ],
)
def test_the_smallest_requests_are_scored(request_: ScoreRequest) -> None:
    model = tiny_model()
    assert_same(engine_of(model).score([request_]), naive(model, [request_]))


def test_requests_without_targets_get_empty_scores() -> None:
    engine = engine_of(tiny_model())
    assert engine.score([]) == []
    assert engine.score([ScoreRequest((3,), (), ()), ScoreRequest((3,), ((4,),), ((),))]) == [
        (),
        ((),),
    ]


def test_a_model_that_caps_its_logits_is_scored_with_the_cap() -> None:
    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=16,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=8, initializer_range=0.3,
        max_position_embeddings=128, final_logit_softcapping=2.0, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).eval()
    requests = ragged_requests(7)
    assert_same(engine_of(model).score(requests), naive(model, requests), atol=2e-5)


def test_only_positions_that_predict_a_target_reach_the_head() -> None:
    model = tiny_model()
    engine = engine_of(model)
    seen: list[int] = []
    model.lm_head.register_forward_hook(
        lambda _, inputs, output: seen.append(output.shape[0] * output.shape[1])
    )
    engine.score([ScoreRequest((3,) * 20, ((4,) * 9, (5,) * 7), (((6, 7),), ((8,),)))])
    assert sum(seen) == 3


def test_a_shared_prompt_is_read_once() -> None:
    model = tiny_model()
    engine = engine_of(model)
    read: list[int] = []
    model.model.embed_tokens.register_forward_hook(
        lambda _, inputs, output: read.append(inputs[0].numel())
    )
    prompt = (3,) * 100
    engine.score([ScoreRequest(prompt, ((4,),) * 8, (((5,),),) * 8)])
    assert sum(read) == 99 + 8 * 2  # all but its last token; then that one and the context


@pytest.mark.parametrize("heat", [0.3, 1.0, 1.5])
def test_sampled_log_probabilities_are_the_scores_of_the_same_tokens(heat: float) -> None:
    engine = engine_of(tiny_model())
    prompt = (9, 8, 7)
    (group,) = engine.sample([SampleRequest(prompt, (1, 2, 3))], max_tokens=20, temperature=heat)
    request = ScoreRequest(prompt, ((),), (tuple(sample.tokens for sample in group),))
    (scores,) = engine.score([request], temperature=heat)
    for sample, found in zip(group, scores[0], strict=True):
        torch.testing.assert_close(found, sample.logprobs, atol=1e-5, rtol=0.0)


def test_loaded_weights_answer_at_once_and_under_their_version() -> None:
    new = tiny_model(seed=1)
    engine, requests = engine_of(tiny_model(seed=0)), ragged_requests(8)
    engine.score(requests)
    engine.load(dict(new.named_parameters()), "proxy@7")
    assert engine.version == "proxy@7"
    assert_same(engine.score(requests), naive(new, requests))


def test_bfloat16_weights_take_float32_ones_and_score_close_to_them() -> None:
    new, requests = tiny_model(seed=1), ragged_requests(8)
    engine = engine_of(replica(tiny_model(seed=0), torch.bfloat16, "cpu"))
    engine.load(dict(new.named_parameters()), "proxy@7")
    assert_same(engine.score(requests), naive(new, requests), atol=0.3)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ScoreRequest((), ((),), (((3,),),)), "precedes it is empty"),
        (ScoreRequest((3,), ((),), (((),),)), "target or all"),
        (ScoreRequest((3,) * 500, ((4,) * 10,), (((5,) * 3,),)), "513 tokens.*512"),
        (ScoreRequest((3,), ((4,),), ()), "1 contexts, 0 targets"),
    ],
)
def test_a_request_that_cannot_be_scored_is_refused(request_: ScoreRequest, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        engine_of(tiny_model()).score([request_])
