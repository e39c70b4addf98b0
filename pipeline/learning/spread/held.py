"""What a line's weights are asked for, however they are spread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipeline.batch import MicroBatch
from pipeline.learning.kept import Kept, Kind


class Held(Protocol):
    """A model in training, as far as this process holds it. All processes call alike, in order.

    weights  name -> those that train, in float32: whole, or the rows that this process holds
    dtype    that the forward pass computes in
    """

    weights: dict[str, Tensor]
    dtype: torch.dtype

    def score(self, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probabilities [S + A] with gradient, and entropies [S]."""
        ...

    def score_start(self, batch: MicroBatch, temperature: float) -> Tensor:
        """Log-probabilities [S + A] under the weights it started from, without gradient."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the step's, in float32."""
        ...

    def idle(self, *, start: bool, learn: bool) -> None:
        """Keep in step while others take a micro-batch more; it adds nothing.

        start  they score the starting weights too; learn: they go backward
        """
        ...

    def discard(self) -> None:
        """Forget the gradients gathered so far."""
        ...

    def collect(self) -> None:
        """Make the gradient gathered here that of all processes together."""
        ...

    def follow(self) -> None:
        """Let what computes follow the weights, which have moved."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Full weights by their plain names, LoRA merged; {} in a process that does not lead."""
        ...

    def mark(self) -> str:
        """A number that all processes must agree on where each holds all weights; else ""."""
        ...

    def write(self, folder: Path, line: str, kind: Kind, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors that lie as the weights do."""
        ...

    def read(self, kept: Kept, name: str, like: Tensor) -> Tensor:
        """A kept tensor, laid as `like` lies where it has its shape."""
        ...
