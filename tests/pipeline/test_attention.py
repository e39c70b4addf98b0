"""Packed rows through other model families, and the two ways of attending."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from pipeline.batch import pack, plan
from pipeline.learning.learner import PolicyLearner
from pipeline.models import attention
from pipeline.models.attention import fused_core, plain_core, use_packed
from pipeline.scorer import Scorer
from tests.pipeline.credits import (
    SPLICE,
    config,
    distance,
    gradients,
    plain_logprobs,
    random_groups,
)
from tests.tiny import tiny_model

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False)).eval()


def mistral() -> PreTrainedModel:
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SHAPE, head_dim=8, sliding_window=4)).eval()


@pytest.mark.parametrize("family", [llama, mistral], ids=["no tied head", "sliding window"])
def test_packed_rows_say_what_single_rows_say(family: Callable[[], PreTrainedModel]):
    groups, single, scorer = random_groups(), family(), Scorer(family())
    rows = sorted(plan(groups, SPLICE, "solver@0", every=False).rows, key=lambda row: row.size)
    batch = pack(rows).on(torch.device("cpu"), torch.float32)
    with torch.no_grad():
        found = scorer(batch, 1.0)[0][: batch.policy_slots]
        wanted = [
            plain_logprobs(single, row.prompt + row.tokens + row.targets[-1:])[len(row.prompt) :]
            for row in rows
        ]
    torch.testing.assert_close(found, torch.cat(wanted), atol=2e-5, rtol=1e-5)


def test_plain_and_fused_attention_agree():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = torch.zeros(2, 1, 5, 7).masked_fill(torch.rand(2, 1, 5, 7) < 0.3, -1e30)
    torch.testing.assert_close(
        plain_core(query, key, value, mask), fused_core(query, key, value, mask)
    )


def test_long_rows_learn_the_same_through_fused_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    groups = random_groups()
    short, _ = gradients(
        PolicyLearner({"solver": tiny_model()}, config(), SPLICE, {}), groups, tmp_path / "a"
    )
    monkeypatch.setattr(attention, "PLAIN_KEYS", 0)
    long, _ = gradients(
        PolicyLearner({"solver": tiny_model()}, config(), SPLICE, {}), groups, tmp_path / "b"
    )
    assert distance(long, short) < 1e-6


def test_a_model_switched_to_packed_attention_still_reads_padded_batches():
    plain, switched = tiny_model(), tiny_model()
    use_packed(switched)
    tokens = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        left, right = (m(input_ids=tokens, attention_mask=mask).logits for m in (plain, switched))
    torch.testing.assert_close(left[mask.bool()], right[mask.bool()])


def test_a_model_without_attention_is_refused():
    model = MambaForCausalLM(
        MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4)
    )
    with pytest.raises(ValueError, match="cannot be trained packed"):
        use_packed(model)


def test_a_model_that_caps_its_scores_is_refused():
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, query_pre_attn_scalar=8))
    with pytest.raises(ValueError, match="soft cap"):
        Scorer(model)
