"""How sure a model is along a text: numbers of the papers, then a plain forward's, then score's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.engine import looks
from pipeline.engine.local import Limits, LocalEngine
from pipeline.models.policy import replica
from pipeline.ports import Confidence, Confidences, ScoreRequest
from tests.pipeline.test_engine_scoring import ragged_requests
from tests.tiny import tiny_model


def engine_of(
    model: PreTrainedModel, limits: Limits | None = None, words: int | None = None
) -> LocalEngine:
    return LocalEngine(
        model, eos_ids=frozenset({1}), pad_id=0, version="p@0", limits=limits, words=words
    )


def seen(logits: Tensor, words: int | None = None) -> Tensor:
    tokens = torch.zeros(len(logits), dtype=torch.long)
    return looks.confidences(words or logits.shape[1])(logits, tokens)


def flat(found: list[Confidences]) -> list[Confidence]:
    return [one for request in found for context in request for one in context]


def assert_near(one: object, other: object, atol: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0.0)


@pytest.mark.parametrize(
    ("logits", "certainty"),
    [
        ([0.0, 0.0, 0.0, 0.0], 0.0),
        ([2.0, 0.0, 0.0, 0.0], 0.454459),
        ([4.0, 0.0, 0.0, 0.0], 1.667197),  # the one above at temperature 0.5
        ([10.0, 0.0, 0.0, 0.0], 6.113842),
        ([math.log(p) for p in (0.7, 0.1, 0.1, 0.1)], 0.429813),  # arXiv 2502.18581
    ],
)
def test_certainty_is_the_divergence_of_the_distribution_from_the_uniform_one(
    logits: list[float], certainty: float
) -> None:
    # by hand for [2, 0, 0, 0]: ln(e^2 + 3) - 2/4 - ln 4
    assert_near(seen(torch.tensor([logits]))[1], torch.tensor([certainty]))


def test_entropy_is_in_nats_and_largest_for_equals() -> None:
    # a half and two quarters: 1.5 ln 2
    table = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25]]).log()
    assert_near(seen(table)[2], torch.tensor([1.5 * math.log(2), math.log(4)]))


def test_neither_depends_on_a_constant_added_to_all_logits_nor_on_their_order() -> None:
    logits = torch.randn(9, 50, generator=torch.Generator().manual_seed(3))
    assert_near(seen(logits + 7.0)[1:], seen(logits)[1:], atol=5e-6)
    assert_near(seen(logits.flip(1))[1:], seen(logits)[1:])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(9, 50, generator=torch.Generator().manual_seed(3))
    whole = seen(logits)
    monkeypatch.setattr(looks, "CHUNK", 100)
    assert torch.equal(seen(logits), whole)


def test_rows_that_only_pad_the_head_inflate_no_certainty() -> None:
    real = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    padded = torch.cat([real, torch.full((1, 4), -60.0)], dim=1)
    assert_near(seen(padded, words=4)[1:], seen(real)[1:])
    assert float(seen(padded)[1]) > 20.0  # what the padding would make of it
    assert torch.equal(seen(padded, words=4)[0], looks.logprobs(padded, torch.tensor([0]))[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_an_engine_confides_what_plain_forwards_say(seed: int) -> None:
    model, requests = tiny_model(), ragged_requests(seed)
    found = iter(flat(engine_of(model).confide(requests)))
    for request in requests:
        for context, targets in zip(request.contexts, request.targets, strict=True):
            for target in targets:
                before = request.prompt + context
                with torch.no_grad():
                    logits = model(torch.tensor([before + target])).logits[0, len(before) - 1 : -1]
                logs, one = logits.double().log_softmax(-1), next(found)
                wanted = logs.gather(1, torch.tensor(target)[:, None])[:, 0]
                certainty = -math.log(64) - logs.mean(-1)
                entropy = -(logs.exp() * logs).sum(-1)
                assert_near(list(one.logprobs), wanted.tolist(), atol=2e-5)
                assert_near(list(one.certainty), certainty.tolist(), atol=2e-5)
                assert_near(list(one.entropy), entropy.tolist(), atol=2e-5)
                assert min(one.certainty) >= 0.0
                assert 0.0 <= min(one.entropy) <= max(one.entropy) <= math.log(64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_confided_log_probabilities_are_the_scored_ones_bit_for_bit(dtype: torch.dtype) -> None:
    requests = ragged_requests(2)
    engine = engine_of(replica(tiny_model(), dtype, "cpu"), words=60)
    scored = [t for r in engine.score(requests) for context in r for t in context]
    assert [one.logprobs for one in flat(engine.confide(requests))] == scored


@pytest.mark.parametrize("limits", [Limits(tokens=1), Limits(cache_bytes=1), Limits(logits=1)])
def test_bounds_change_batches_and_not_confidences(limits: Limits) -> None:
    model, requests = tiny_model(), ragged_requests(4)
    bounded, whole = (
        flat(engine_of(model, bound).confide(requests)) for bound in (limits, Limits())
    )
    for one, other in zip(bounded, whole, strict=True):
        assert_near(list(one.certainty), list(other.certainty), atol=1e-5)
        assert_near(list(one.entropy), list(other.entropy), atol=1e-5)


def test_a_text_longer_than_one_stride_is_confided_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = ScoreRequest((5, 6), ((),), ((tuple(range(2, 22)),),))
    engine = engine_of(tiny_model())
    (whole,) = flat(engine.confide([request]))
    monkeypatch.setattr("pipeline.engine.rows.STRIDE", 3)
    (parts,) = flat(engine.confide([request]))
    assert_near(list(parts.certainty), list(whole.certainty), atol=1e-5)


def test_siblings_read_their_prompt_once() -> None:
    model = tiny_model()
    engine = engine_of(model)
    read: list[int] = []
    model.model.embed_tokens.register_forward_hook(
        lambda _, inputs, output: read.append(inputs[0].numel())
    )
    prompt = (3,) * 100
    engine.confide([ScoreRequest(prompt, ((),), (((5, n),),)) for n in range(8)])
    assert sum(read) == 99 + 8 * 2  # all but its last token; then that one and all but the last
