from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from pipeline.engine.grouped import NAME, use_grouped
from pipeline.engine.local import LocalEngine
from pipeline.models.policy import replica
from tests.pipeline.test_engine_scoring import ragged_requests
from tests.tiny import tiny_model


def engine_of(model: PreTrainedModel) -> LocalEngine:
    return LocalEngine(model, eos_ids=frozenset({1}), pad_id=0, version="p@0")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_keys_give_the_very_scores_that_repeated_ones_give(dtype: torch.dtype) -> None:
    model, requests = replica(tiny_model(hidden=128), dtype, "cpu"), ragged_requests(3)
    engine = engine_of(model)
    assert model.config._attn_implementation == NAME
    shared = engine.score(requests)
    model.set_attn_implementation("sdpa")
    assert engine.score(requests) == shared


def test_a_plain_forward_of_the_model_stays_what_it_was() -> None:
    model, ids = tiny_model(), torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).logits
        use_grouped(model)
        after = model(input_ids=ids, attention_mask=mask).logits
        alone = model(input_ids=ids[:1]).logits
    assert torch.equal(before, after)
    torch.testing.assert_close(alone, before[:1])


def test_a_model_with_attention_of_its_own_keeps_it() -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    use_grouped(model)
    assert model.config._attn_implementation == "eager"
