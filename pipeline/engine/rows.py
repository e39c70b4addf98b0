"""Rows of tokens a causal language model has read: read on, repeat for a group, drop the finished.

Works for any transformers causal LM whose layers attend fully or through a sliding window and whose
forward takes `position_ids`; others are refused. B rows, `columns` of keys and values; a column is
padding for some rows, so every call passes explicit positions and a ready 4D mask, which also
spares transformers building one. Only wanted positions reach the vocabulary head: a hook on the
head picks them, so whatever the model does to its logits afterwards still happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.engine.cache import Slab, SlabLayer
from pipeline.engine.looks import Look
from pipeline.models.policy import longest_row

STRIDE = 1024  # columns read in one forward: bounds the mask of a long prompt
_PADDING = -1  # place of a column that holds no token
_KINDS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True, slots=True)
class Reader:
    """A model, with what must be known of it to prepare its masks.

    head    what makes logits of hidden states
    limit   longest row the model's positions allow
    window  columns a sliding layer looks back, itself included; None where no layer slides
    mixed   true where only some layers slide, so that each kind needs its own mask
    """

    model: PreTrainedModel
    head: nn.Module
    limit: int
    window: int | None
    mixed: bool
    layers: int
    vocab: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Reader:
        """Raises ValueError for a model whose layers keep more than keys and values."""
        config = model.config.get_text_config()
        name = type(model).__name__
        kinds = set(getattr(config, "layer_types", None) or ())
        if not kinds <= _KINDS or model._is_stateful:
            raise ValueError(
                f"{name} keeps state that is not keys and values ({sorted(kinds - _KINDS)}); "
                "use a model whose layers are full or sliding attention"
            )
        if "position_ids" not in inspect.signature(model.forward).parameters:
            raise ValueError(f"{name} takes no position_ids; use a model that does")
        window = getattr(config, "sliding_window", None)
        if kinds == {"full_attention"}:
            window = None
        return cls(
            model=model,
            head=model.get_output_embeddings(),
            limit=longest_row(model),
            window=window,
            mixed=len(kinds) > 1,
            layers=config.num_hidden_layers,
            vocab=config.vocab_size,
        )

    def empty(self, rows: int, capacity: int) -> Rows:
        """`rows` rows that have read nothing, with room for `capacity` columns."""
        device = self.model.device
        places = torch.full((rows, capacity), _PADDING, dtype=torch.int32, device=device)
        lengths = torch.zeros(rows, dtype=torch.long, device=device)
        return Rows(self, Slab([SlabLayer(capacity) for _ in range(self.layers)]), places, lengths)


class Rows:
    """B rows and what the model remembers of them. Results do not depend on padding.

    places   [B, capacity]  position of the token in each column, -1 for padding
    lengths  [B]            tokens read per row
    """

    def __init__(self, reader: Reader, slab: Slab, places: Tensor, lengths: Tensor) -> None:
        self.reader = reader
        self.slab = slab
        self.places = places
        self.lengths = lengths
        self.used = slab.slabs[0].used
        self._decode_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def last_logits(self, ids: Tensor, real: Tensor) -> Tensor:
        """Read a block padded on the left; logits [B, V] after its last column.

        ids [B, W], real [B, W] bool; every row ends in a real token.
        """
        logits = ids.new_empty(0)
        for part in _strides(ids.shape[1]):
            wanted = torch.zeros_like(real[:, part])
            if part.stop == ids.shape[1]:
                wanted[:, -1] = True
            logits = self._read(ids[:, part], real[:, part], wanted)
        return logits

    def look(self, ids: Tensor, real: Tensor, following: Tensor, look: Look) -> Tensor:
        """Read a block; what `look` sees of each position's wanted following token.

        ids [B, W]; real [B, W] bool; following [B, W] a token id, or -1 where none is wanted
        -> [kinds, B, W] float32, 0 where none is wanted
        """
        parts = []
        for part in _strides(ids.shape[1]):
            wanted = following[:, part] >= 0
            logits = self._read(ids[:, part], real[:, part], wanted)
            seen = look(logits, following[:, part][wanted])
            result = seen.new_zeros((len(seen), *wanted.shape))
            result[:, wanted] = seen
            parts.append(result)
        return torch.cat(parts, dim=2)

    def read(self, ids: Tensor, real: Tensor) -> None:
        """Read a block for its keys and values alone."""
        for part in _strides(ids.shape[1]):
            self._read(ids[:, part], real[:, part], torch.zeros_like(real[:, part]))

    def step(self, tokens: Tensor) -> Tensor:
        """Read one token per row; logits [B, V] after it. tokens [B]."""
        reader, start = self.reader, self.used
        self.used += 1
        self.places[:, start] = self.lengths
        if reader.window is None or self.used <= reader.window:
            mask: Tensor | dict[str, Tensor] = self._decoding()[..., : self.used]
        else:
            mask = self._masks(start)
        positions = self.lengths[:, None].clone()
        self.lengths += 1
        output = reader.model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.slab,
            use_cache=True,
        )
        logits: Tensor = output.logits
        return logits[:, -1]

    def repeat(self, rows: Tensor, capacity: int) -> Rows:
        """New rows, row i a copy of row rows[i], with room for `capacity` columns in all."""
        places = self.places.new_full((len(rows), capacity), _PADDING)
        places[:, : self.used] = self.places[:, : self.used].index_select(0, rows)
        slab = self.slab.repeat(rows, capacity)
        return Rows(self.reader, slab, places, self.lengths.index_select(0, rows))

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (ascending)."""
        self.slab.keep(rows)
        self.places = self.places.index_select(0, rows)
        self.lengths = self.lengths.index_select(0, rows)
        if self._decode_mask is not None:
            self._decode_mask = self._decode_mask.index_select(0, rows)

    def _read(self, ids: Tensor, real: Tensor, wanted: Tensor) -> Tensor:
        """Logits [n, V] of the wanted positions, row by row."""
        model, start = self.reader.model, self.used
        self.used += ids.shape[1]
        self._decode_mask = None
        positions = (self.lengths[:, None] + real.cumsum(1) - 1).clamp_(min=0)
        self.lengths = self.lengths + real.sum(1)
        self.places[:, start : self.used] = positions.masked_fill(~real, _PADDING)
        with _only(self.reader.head, wanted):
            output = model(
                input_ids=ids,
                attention_mask=self._masks(start),
                position_ids=positions,
                past_key_values=self.slab,
                use_cache=True,
            )
        logits: Tensor = output.logits
        return logits[0]

    def _masks(self, start: int) -> Tensor | dict[str, Tensor]:
        """What the columns from `start` on may attend to: [B, 1, W, used], or one per kind."""
        keys = self.places[:, None, : self.used]  # [B, 1, K]
        queries = self.places[:, start : self.used, None]  # [B, W, 1]
        columns = torch.arange(self.used, device=keys.device)
        # Padding attends to itself: a row of nothing but "no" would be NaN and spread.
        own = columns == columns[start:, None]
        allowed = ((columns <= columns[start:, None]) & (keys >= 0)) | own
        window = self.reader.window
        if window is None or self.used <= window:
            return self._additive(allowed)
        near = (allowed & (queries - keys < window)) | own
        if not self.reader.mixed:
            return self._additive(near)
        return {
            "full_attention": self._additive(allowed),
            "sliding_attention": self._additive(near),
        }

    def _decoding(self) -> Tensor:
        """Mask [B, 1, 1, capacity] of a step: columns still to come count as allowed."""
        if self._decode_mask is None:
            allowed = self.places >= 0
            allowed[:, self.used - 1 :] = True
            self._decode_mask = self._additive(allowed[:, None])
        return self._decode_mask

    def _additive(self, allowed: Tensor) -> Tensor:
        """[B, W, K] bool -> [B, 1, W, K]: 0, or half the lowest number, which no sum overflows."""
        dtype = self.reader.model.dtype
        low = torch.finfo(dtype).min / 2
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        return mask.masked_fill_(~allowed, low)[:, None]


def _strides(width: int) -> list[slice]:
    return [slice(start, min(start + STRIDE, width)) for start in range(0, width, STRIDE)]


@contextmanager
def _only(head: nn.Module, wanted: Tensor) -> Iterator[None]:
    """Let only wanted positions through the head: hidden [B, W, H] -> [1, n, H]."""

    def pick(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][wanted][None],)

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
