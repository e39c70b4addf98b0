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
    **kwargs: object,
) -> tuple[Tensor, None]:
    """transformers' attention contract: query [1, H, T, D], key and value [1, Hkv, T, D] -> [1, T, H, D]."""
    packing = kwargs.pop("packing", None)
    if not isinstance(packing, Packing):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if kwargs.get("softcap") is not None:
        raise ValueError("packed attention knows no soft cap; choose a base without one")
    scaling = kwargs.get("scaling")
    scale = float(scaling) if isinstance(scaling, float) else query.shape[-1] ** -0.5
    window = kwargs.get("sliding_window")
    return _attend(query[0] * scale, key[0], value[0], packing, window if isinstance(window, int) else None), None


def _attend(query: Tensor, key: Tensor, value: Tensor, packing: Packing, window: int | None) -> Tensor:
    """[heads, T, D] each -> [1, T, H, D]. The prompts attend to themselves, rows to prompt and row."""
    head = len(packing.prompt_cells)
    row_key, row_value = (_pad(x[:, head:], packing.row_index) for x in (key, value))
    row_query = _pad(query[:, head:], packing.row_index)
    mask = packing.row_mask
    parts = []
    if head:
        prompt_key, prompt_value = (_pad(x[:, :head], packing.prompt_index) for x in (key, value))
        prompt_query = _pad(query[:, :head], packing.prompt_index)
        places = packing.prompt_positions
        prompt_mask = _windowed(packing.prompt_mask, places, places, window)
        out = _core(prompt_query, prompt_key, prompt_value, prompt_mask)
        parts.append(_unpad(out, packing.prompt_cells))
        row_key = torch.cat([prompt_key[packing.family], row_key], dim=2)
        row_value = torch.cat([prompt_value[packing.family], row_value], dim=2)
        seen = torch.cat([places[packing.family], packing.row_positions], dim=1)
    else:
        seen = packing.row_positions
    mask = _windowed(mask, packing.row_positions, seen, window)
    parts.append(_unpad(_core(row_query, row_key, row_value, mask), packing.row_cells))
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

    Heads that share a key lie below each other in one product. Plain products beat the fused CPU
    kernel here, whose backward pass is slow at these lengths.
    """
    rows, heads, length, width = query.shape
    shared = key.shape[1]
    stacked = query.reshape(rows, shared, heads // shared * length, width)
    scores = (stacked @ key.transpose(-1, -2)).view(rows, heads, length, -1) + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    out = weights.view(rows, shared, heads // shared * length, -1) @ value
    return out.view(rows, heads, length, width).transpose(1, 2)
