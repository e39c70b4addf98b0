"""Attention whose heads share keys, without a copy of the keys for each head.

transformers repeats keys and values wherever a mask is given, since masked attention of shared keys
falls to a slow kernel on a GPU. A CPU's fused kernel reads shared keys as they are and gives the
same bits.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "coclimb_grouped"


def use_grouped(model: PreTrainedModel) -> None:
    """Switch a model on a CPU that attends with "sdpa"; any other stays as it is."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, grouped_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """transformers' attention contract, so its parameters are not ours to choose.

    query [B, H, W, D], key and value [B, Hkv, K, D] -> [B, W, H, D]; a step of one token, and
    whatever else is not masked attention of shared keys on a CPU, as "sdpa".
    """
    shared = query.shape[1] > key.shape[1] and query.shape[2] > 1
    special = softcap is not None or position_bias is not None
    if query.device.type != "cpu" or attention_mask is None or special or not shared:
        out, _none = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, position_bias,
            softcap=softcap,
        )  # fmt: skip
        return out, None
    out = nn.functional.scaled_dot_product_attention(
        query, key, value, attention_mask, dropout, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous(), None
