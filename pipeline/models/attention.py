"""Attention over packed micro-batches: rows of one prompt look at it without a copy each.

Registered with transformers under NAME. A model switched to it computes as with "sdpa" until a
forward call hands it a `packing`; then tokens [1, T] are taken as that packing lays them out, and
everything but attention (norms, projections, MLP) runs on T tokens with no padding among them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import PreTrainedModel

from pipeline.batch import Packing

NAME = "coclimb_packed"
PLAIN_KEYS = 512  # longest row that a CPU attends with plain products


def use_packed(model: PreTrainedModel) -> None:
    """Switch the model to packed attention.

    Raises ValueError for a model whose layers are not all attention, or do not take it from
    transformers' interface: packed rows would run into each other there.
    """
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
    strange = sorted(kinds - {"full_attention", "sliding_attention"})
    if strange or not model._supports_attention_backend:
        raise ValueError(
            f"{type(model).__name__} cannot be trained packed: "
            f"{'layers ' + ', '.join(strange) if strange else 'it has its own attention'}; "
            "choose a base whose layers are full or sliding attention, such as Qwen3 or Llama"
        )
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packing: Packing | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """transformers' attention contract, so its parameters are not ours to choose.

    query [1, H, T, D], key and value [1, Hkv, T, D] -> [1, T, H, D]; without a packing as "sdpa".
    """
    if softcap is not None:
        raise ValueError("packed attention knows no soft cap; choose a base without one")
    if packing is None:
        out, _none = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal
        )
        return out, None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return _attend(query[0] * scale, key[0], value[0], packing, sliding_window), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, window: int | None
) -> Tensor:
    """[heads, T, D] each -> [1, T, H, D]; prompts see themselves, rows their prompt and the row."""
    head = len(packing.prompt_cells)
    q, k, v = (_pad(x[:, head:], packing.row_index) for x in (query, key, value))
    seen, parts = packing.row_positions, []
    if head:
        own_q, own_k, own_v = (_pad(x[:, :head], packing.prompt_index) for x in (query, key, value))
        places = packing.prompt_positions
        out = _core(own_q, own_k, own_v, _windowed(packing.prompt_mask, places, places, window))
        parts.append(_unpad(out, packing.prompt_cells))
        k = torch.cat([own_k.index_select(0, packing.family), k], dim=2)
        v = torch.cat([own_v.index_select(0, packing.family), v], dim=2)
        seen = torch.cat([places[packing.family], seen], dim=1)
    out = _core(q, k, v, _windowed(packing.row_mask, packing.row_positions, seen, window))
    parts.append(_unpad(out, packing.row_cells))
    return torch.cat(parts)[None]


def _pad(x: Tensor, index: Tensor) -> Tensor:
    """[heads, T, D] -> [rows, heads, longest, D]"""
    heads, _, width = x.shape
    flat = x.transpose(0, 1)  # [T, heads, D], as the projection wrote it
    return flat.index_select(0, index.flatten()).view(*index.shape, heads, width).transpose(1, 2)


def _unpad(x: Tensor, cells: Tensor) -> Tensor:
    """[rows, longest, H, D] -> [T, H, D]"""
    return x.flatten(0, 1).index_select(0, cells)


def _windowed(mask: Tensor, queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Hide keys `window` or more positions back; queries [rows, n], keys [rows, m]."""
    if window is None:
        return mask
    far = queries[:, :, None] - keys[:, None, :] >= window
    return mask.masked_fill(far[:, None], torch.finfo(mask.dtype).min)


def _core(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """[rows, heads, n, D] -> [rows, n, H, D].

    Short rows on a CPU take plain products: its fused kernel has a slow backward pass at these
    lengths. Elsewhere the scores of all heads would cost too much memory.
    """
    plain = query.device.type == "cpu" and key.shape[2] <= PLAIN_KEYS
    return (plain_core if plain else fused_core)(query, key, value, mask)


def plain_core(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Products and a softmax; heads that share a key lie below each other in one product."""
    rows, heads, length, width = query.shape
    shared = key.shape[1]
    stacked = query.reshape(rows, shared, heads // shared * length, width)
    scores = (stacked @ key.transpose(-1, -2)).view(rows, heads, length, -1) + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    out = weights.view(rows, shared, heads // shared * length, -1) @ value
    return out.view(rows, heads, length, width).transpose(1, 2)


def fused_core(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """torch's fused attention, which with a mask wants keys repeated for each of their queries."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    return out.transpose(1, 2)
