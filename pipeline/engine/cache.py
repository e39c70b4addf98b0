"""Keys and values of a batch in buffers made once: a token is written in place, never appended.

A transformers `Cache` whose layers keep every column, padding included; what may be attended to is
the mask's business (`rows`). Tensors are [B, heads, columns, width].
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class SlabLayer(CacheLayerMixin):
    """One layer's keys and values: `used` of `capacity` columns are filled."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
        self.used = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the buffers in the shape, dtype and device of the first keys and values."""
        rows, heads, _, width = key_states.shape
        self.keys = key_states.new_empty((rows, heads, self.capacity, width))
        rows, heads, _, width = value_states.shape
        self.values = value_states.new_empty((rows, heads, self.capacity, width))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new columns; return all columns filled so far, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        start, self.used = self.used, self.used + key_states.shape[2]
        self.keys[:, :, start : self.used] = key_states
        self.values[:, :, start : self.used] = value_states
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def repeat(self, rows: Tensor, capacity: int) -> SlabLayer:
        """A new layer of `capacity` columns whose row i is a copy of row rows[i]."""
        twin = SlabLayer(capacity)
        if self.is_initialized:
            assert self.keys is not None
            assert self.values is not None
            twin.keys = _gather(self.keys, rows, self.used, capacity)
            twin.values = _gather(self.values, rows, self.used, capacity)
            twin.is_initialized = True
        twin.used = self.used
        return twin

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (ascending); the buffers keep their memory."""
        assert self.keys is not None
        assert self.values is not None
        for buffer in (self.keys, self.values):
            filled = buffer[:, :, : self.used]
            buffer[: len(rows), :, : self.used] = filled.index_select(0, rows)
        self.keys, self.values = self.keys[: len(rows)], self.values[: len(rows)]

    def bytes(self) -> int:
        """Bytes of both buffers."""
        if self.keys is None or self.values is None:
            return 0
        return self.keys.nbytes + self.values.nbytes

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns a query will see, and where they begin."""
        return self.used + query_length, 0

    def get_seq_length(self) -> int:
        """Columns filled."""
        return self.used

    def get_max_length(self) -> int:
        """Columns there are."""
        return self.capacity


class Slab(Cache):
    """A cache of `SlabLayer`s, one per layer of the model."""

    def __init__(self, layers: list[SlabLayer]) -> None:
        super().__init__(layers=list(layers))
        self.slabs = layers

    def repeat(self, rows: Tensor, capacity: int) -> Slab:
        """A new cache whose row i is a copy of row rows[i], with room for `capacity` columns."""
        return Slab([layer.repeat(rows, capacity) for layer in self.slabs])

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (ascending)."""
        for layer in self.slabs:
            layer.keep(rows)

    def bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(layer.bytes() for layer in self.slabs)


def _gather(buffer: Tensor, rows: Tensor, used: int, capacity: int) -> Tensor:
    _, heads, _, width = buffer.shape
    twin = buffer.new_empty((len(rows), heads, capacity, width))
    torch.index_select(buffer[:, :, :used], 0, rows, out=twin[:, :, :used])
    return twin
