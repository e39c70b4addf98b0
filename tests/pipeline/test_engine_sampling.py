from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pipeline.engine.local import Limits, LocalEngine
from pipeline.engine.sampling import pick, streams, top
from pipeline.models.policy import replica
from pipeline.ports import Sample, SampleRequest
from tests.tiny import tiny_model

END = frozenset({1})


def engine_of(model: PreTrainedModel, limits: Limits | None = None) -> LocalEngine:
    return LocalEngine(model, eos_ids=END, pad_id=0, version="solver@0", limits=limits)


def some_requests(count: int, seeds: int = 2) -> list[SampleRequest]:
    """Prompts of 1 to 15 tokens, ragged."""
    return [
        SampleRequest(
            tuple(2 + (7 * i + 3 * j) % 60 for j in range(1 + (5 * i) % 15)),
            tuple(100 * i + s for s in range(seeds)),
        )
        for i in range(count)
    ]


def logprobs_of(
    model: PreTrainedModel, prompt: tuple[int, ...], sample: Sample, temperature: float
) -> torch.Tensor:
    """Log-probabilities of a completion by one plain forward, without cache, mask or padding."""
    ids = torch.tensor([prompt + sample.tokens])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].float() / temperature
    table = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return table.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]


def test_a_draw_is_the_first_token_whose_cumulative_probability_exceeds_the_uniform() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.0, 0.5, 0.3]])).expand(5, 4)
    uniforms = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71])
    tokens, logprobs = pick(logits, uniforms, 1.0)
    assert tokens.tolist() == [0, 0, 2, 2, 3]
    torch.testing.assert_close(logprobs.exp(), torch.tensor([0.2, 0.2, 0.5, 0.5, 0.3]))


def test_the_largest_uniform_never_draws_a_token_of_probability_zero() -> None:
    logits = torch.tensor([[1.0, 2.0, -math.inf]])
    tokens, logprobs = pick(logits, torch.tensor([1 - 2.0**-24]), 1.0)
    assert tokens.tolist() == [1]
    assert math.isfinite(float(logprobs))


def test_temperature_divides_the_logits_of_draw_and_log_probability() -> None:
    # ln 4 apart at temperature 2 is ln 2 apart: 1/3 and 2/3
    logits = torch.tensor([[0.0, math.log(4.0)]] * 2)
    tokens, logprobs = pick(logits, torch.tensor([0.32, 0.34]), 2.0)
    assert tokens.tolist() == [0, 1]
    torch.testing.assert_close(logprobs.exp(), torch.tensor([1 / 3, 2 / 3]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_equally_probable_tokens_the_lowest_id_is_on_top(dtype: torch.dtype) -> None:
    # two tokens of 2 parts among 2 + 2 + 1; then two thousand equals behind a lower one
    few = torch.log(torch.tensor([[1.0, 2.0, 2.0]]))
    tokens, logprobs = top(few)
    assert tokens.tolist() == [1]
    torch.testing.assert_close(logprobs.exp(), torch.tensor([0.4]))
    many = torch.ones(3, 2_000, dtype=dtype)
    many[:, 0] = 0.0
    assert top(many)[0].tolist() == [1, 1, 1]


def test_at_temperature_zero_each_token_is_the_most_probable_and_told_at_one() -> None:
    model, requests = tiny_model(), some_requests(6)
    for request, group in zip(
        requests,
        engine_of(model).sample(requests, max_tokens=20, temperature=0.0),
        strict=True,
    ):
        assert group[0] == group[1]  # whatever the seed
        (sample, _) = group
        ids = torch.tensor([request.prompt + sample.tokens])
        with torch.no_grad():
            table = model(input_ids=ids).logits[0, len(request.prompt) - 1 : -1].log_softmax(-1)
        assert sample.tokens == tuple(table.argmax(-1).tolist())
        found = torch.tensor(sample.logprobs)
        torch.testing.assert_close(found, table.max(-1).values, atol=1e-5, rtol=0.0)


def test_at_temperature_zero_a_completion_is_the_same_alone_and_among_others() -> None:
    engine, requests = engine_of(tiny_model()), some_requests(12, seeds=1)
    together = engine.sample(requests, max_tokens=16, temperature=0.0)
    alone = [engine.sample([one], max_tokens=16, temperature=0.0)[0] for one in requests]
    assert [g[0].tokens for g in together] == [g[0].tokens for g in alone]


def test_draws_follow_the_distribution() -> None:
    chances = torch.tensor([0.1, 0.6, 0.3])
    uniforms = torch.from_numpy(streams(range(5_000), 1))[:, 0]
    tokens, _ = pick(chances.log().expand(5_000, 3), uniforms, 1.0)
    shares = tokens.bincount(minlength=3) / 5_000
    torch.testing.assert_close(shares, chances, atol=0.025, rtol=0.0)


def test_a_longer_stream_begins_with_the_shorter_and_seeds_differ() -> None:
    short, long = streams([7, 2**63 - 1], 5), streams([7, 2**63 - 1], 50)
    assert (long[:, :5] == short).all()
    assert (long[0] != long[1]).all()
    assert ((long >= 0) & (long < 1)).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_log_probabilities_are_those_of_a_plain_forward(temperature: float) -> None:
    model = tiny_model()
    requests = some_requests(6)
    groups = engine_of(model).sample(requests, max_tokens=40, temperature=temperature)
    assert {s.stop for group in groups for s in group} == {"end", "length"}
    for request, group in zip(requests, groups, strict=True):
        for sample in group:
            expected = logprobs_of(model, request.prompt, sample, temperature)
            torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-5, rtol=0.0)


def test_in_float32_a_completion_is_the_same_alone_and_among_fifteen_others() -> None:
    engine = engine_of(tiny_model())
    requests = some_requests(16, seeds=3)
    together = engine.sample(requests, max_tokens=24, temperature=1.0)
    for request, group in zip(requests, together, strict=True):
        (alone,) = engine.sample([request], max_tokens=24, temperature=1.0)
        assert [s.tokens for s in alone] == [s.tokens for s in group]
        assert [s.stop for s in alone] == [s.stop for s in group]


def test_in_bfloat16_log_probabilities_stay_close_in_any_company(
    record_property: Callable[[str, object], None],
) -> None:
    model = replica(tiny_model(), torch.bfloat16, "cpu")
    engine = engine_of(model)
    requests = some_requests(16, seeds=3)
    together = engine.sample(requests, max_tokens=24, temperature=1.0)
    same = 0
    for request, group in zip(requests, together, strict=True):
        (alone,) = engine.sample([request], max_tokens=24, temperature=1.0)
        same += sum(a.tokens == b.tokens for a, b in zip(alone, group, strict=True))
        for sample in group:
            expected = logprobs_of(model, request.prompt, sample, 1.0)
            assert float((torch.tensor(sample.logprobs) - expected).abs().mean()) < 0.05
    record_property("completions equal alone and in company", f"{same} of 48")


def test_a_memory_bound_changes_waves_and_not_completions() -> None:
    model, requests = tiny_model(), some_requests(8, seeds=4)
    whole = engine_of(model).sample(requests, max_tokens=20, temperature=1.0)
    row = 2 * 2 * 2 * 16 * 4 * 35  # layers, keys and values, heads, width, bytes, columns
    bounded = engine_of(model, Limits(cache_bytes=3 * row)).sample(
        requests, max_tokens=20, temperature=1.0
    )
    assert [[s.tokens for s in g] for g in bounded] == [[s.tokens for s in g] for g in whole]


def test_one_seed_gives_one_completion_whoever_shares_the_prompt() -> None:
    engine = engine_of(tiny_model())
    prompt = (5, 6, 7)
    requests = [SampleRequest(prompt, (4, 9)), SampleRequest(prompt, (9,))]
    first, second = engine.sample(requests, max_tokens=12, temperature=1.0)
    assert first[1].tokens == second[0].tokens
    assert first[0].tokens != first[1].tokens


def test_a_completion_ends_with_its_first_end_token_or_with_the_budget() -> None:
    groups = engine_of(tiny_model()).sample(some_requests(16, 4), max_tokens=40, temperature=1.0)
    samples = [sample for group in groups for sample in group]
    for sample in samples:
        assert len(sample.tokens) == len(sample.logprobs)
        assert 1 not in sample.tokens[:-1]
        assert (sample.tokens[-1] == 1) == (sample.stop == "end")
        assert sample.stop == "end" or len(sample.tokens) == 40
    assert 0 < sum(s.stop == "end" for s in samples) < len(samples)


def test_a_budget_of_one_token_and_a_request_without_seeds_are_served() -> None:
    engine = engine_of(tiny_model())
    one, none = engine.sample(
        [SampleRequest((3,), (1,)), SampleRequest((4,), ())], max_tokens=1, temperature=1.0
    )
    assert len(one[0].tokens) == 1
    assert none == ()
    assert engine.sample([], max_tokens=1, temperature=1.0) == []


def test_a_prompt_longer_than_one_stride_is_read_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, requests = tiny_model(), some_requests(5)
    whole = engine_of(model).sample(requests, max_tokens=8, temperature=1.0)
    monkeypatch.setattr("pipeline.engine.rows.STRIDE", 4)
    parts = engine_of(model).sample(requests, max_tokens=8, temperature=1.0)
    assert [[s.tokens for s in g] for g in parts] == [[s.tokens for s in g] for g in whole]


def sliding_qwen() -> Qwen3ForCausalLM:
    """One full and one sliding layer, whose window of 6 is shorter than the rows."""
    config = Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=6,
        use_sliding_window=True, layer_types=["full_attention", "sliding_attention"],
        initializer_range=0.3, max_position_embeddings=128, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def sliding_mistral() -> MistralForCausalLM:
    """Every layer slides."""
    config = MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=6, initializer_range=0.3,
        max_position_embeddings=128, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    """Learned positions, keys as many as queries."""
    config = GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("build", [sliding_qwen, sliding_mistral, gpt2])
def test_other_architectures_agree_with_their_own_plain_forward(
    build: Callable[[], PreTrainedModel],
) -> None:
    torch.manual_seed(3)
    model = build()
    requests = some_requests(6)
    for request, group in zip(
        requests, engine_of(model).sample(requests, max_tokens=24, temperature=1.0), strict=True
    ):
        for sample in group:
            expected = logprobs_of(model, request.prompt, sample, 1.0)
            torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=2e-5, rtol=0.0)


def test_a_prompt_that_leaves_no_room_is_refused_with_the_numbers() -> None:
    engine = engine_of(tiny_model())
    with pytest.raises(ValueError, match=r"prompt of 500 \+ max_tokens 13 = 513 tokens.*512"):
        engine.sample([SampleRequest((3,) * 500, (1,))], max_tokens=13, temperature=1.0)


@pytest.mark.parametrize("temperature", [-1.0, math.inf, math.nan])
def test_a_temperature_below_zero_or_not_finite_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        engine_of(tiny_model()).sample(
            [SampleRequest((3,), (1,))], max_tokens=2, temperature=temperature
        )


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        engine_of(tiny_model()).sample([SampleRequest((), (1,))], max_tokens=2, temperature=1.0)
