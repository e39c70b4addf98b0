"""Weights and moments of a line in a folder: whole, or in one shard per process.

    LINE.weights.safetensors                 whole, as one process or replicas write it
    LINE.weights.0-of-2.safetensors, ...     shards: each its rows of every tensor
    LINE.weights.json                        and beside them the tensors' whole shapes

and the same for "moments". A tensor of N rows is cut as torch.chunk cuts it: process r of P holds
rows [r c, (r + 1) c) with c = ceil(N / P), as far as there are some; a number stands in every
shard. Either is read by any number of processes: what two wrote one restores, and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from torch import Tensor

from pipeline.files.saving import save_tensors

Kind = Literal["weights", "moments"]
Span = tuple[int, int]  # the first row, and the row behind the last


class _Index(BaseModel):
    """Of the whole tensors that shards are of."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    processes: int
    shapes: dict[str, list[int]]


def span_of(rows: int, rank: int, size: int) -> Span:
    """The rows that process `rank` of `size` holds of a tensor of so many."""
    each = ceil(rows / size)
    return min(rank * each, rows), min((rank + 1) * each, rows)


def write_whole(folder: Path, line: str, kind: Kind, tensors: Mapping[str, Tensor]) -> None:
    """Write whole tensors into one file."""
    save_tensors(tensors, folder / f"{line}.{kind}.safetensors")


class Shards:
    """Where process `rank` of `size` writes its rows of a line's tensors."""

    def __init__(self, folder: Path, line: str, rank: int, size: int) -> None:
        self.folder, self.line, self.rank, self.size = folder, line, rank, size

    def write(
        self, kind: Kind, rows: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Write this process's rows; process 0 writes the whole shapes beside them."""
        stem = f"{self.line}.{kind}"
        save_tensors(rows, self.folder / _shard(stem, self.rank, self.size))
        if self.rank == 0:
            listed = {name: list(shape) for name, shape in sorted(shapes.items())}
            index = _Index(processes=self.size, shapes=listed)
            (self.folder / f"{stem}.json").write_text(index.model_dump_json(indent=1))


def _shard(stem: str, rank: int, size: int) -> str:
    return f"{stem}.{rank}-of-{size}.safetensors"


def _shapes(file: safe_open) -> dict[str, list[int]]:
    # safetensors leaves both calls untyped
    names: list[str] = file.keys()  # type: ignore[no-untyped-call]
    return {name: file.get_slice(name).get_shape() for name in names}  # type: ignore[no-untyped-call]


class Kept:
    """A with block that reads tensors of a line, however they were written.

    shapes  of the whole tensors, by name
    """

    def __init__(self, folder: Path, line: str, kind: Kind) -> None:
        self.folder, self.stem = folder, f"{line}.{kind}"
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Kept:
        listed = self.folder / f"{self.stem}.json"
        index = _Index.model_validate_json(listed.read_text()) if listed.is_file() else None
        names = [f"{self.stem}.safetensors"]
        if index is not None:
            names = [_shard(self.stem, rank, index.processes) for rank in range(index.processes)]
        self._files = [
            self._open.enter_context(safe_open(self.folder / name, framework="pt"))
            for name in names
        ]
        found = index.shapes if index else _shapes(self._files[0])
        self.shapes = {name: tuple(shape) for name, shape in found.items()}
        return self

    def __exit__(self, *left: object) -> None:
        self._open.close()

    def read(self, name: str, span: Span | None = None) -> Tensor:
        """A tensor, or those of its rows."""
        if not self.shapes[name]:
            number: Tensor = self._files[0].get_tensor(name)
            return number
        start, stop = span or (0, self.shapes[name][0])
        parts: list[Tensor] = []
        for rank, file in enumerate(self._files):
            first, last = span_of(self.shapes[name][0], rank, len(self._files))
            low, high = max(start, first), min(stop, last)
            if low < high:
                parts.append(file.get_slice(name)[low - first : high - first])
        return torch.cat(parts) if parts else self._files[0].get_tensor(name)[:0]
