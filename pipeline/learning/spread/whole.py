"""All weights of a line in this process: of one that trains alone, or of each of several replicas.

Replicas add their gradients up once a step, after the last micro-batch, in float32 and in big flat
pieces. That is DistributedDataParallel's gradient without what it does per micro-batch: no
reduction that an unequal number of micro-batches would leave waiting, no buckets in bfloat16, and
a sum where it takes a mean.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from pipeline.batch import MicroBatch
from pipeline.config import RunConfig
from pipeline.learning.kept import Kept, Kind, write_whole
from pipeline.learning.team import Team
from pipeline.models.policy import DTYPES, merged_state
from pipeline.scorer import Scorer


class Whole:
    """Fills Held. In bfloat16 a copy of the model computes: its gradients are added up in float32
    and its weights follow each step, cast once a step and not once a micro-batch."""

    def __init__(self, model: PreTrainedModel, config: RunConfig, team: Team) -> None:
        self.model, self.team = model, team
        self.dtype = DTYPES[config.model.train_dtype]
        self.weights: dict[str, Tensor] = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        computing = model if self.dtype == torch.float32 else _computed_in(model, self.dtype)
        self.scorer = Scorer(computing, recompute=config.learner.gradient_checkpointing)
        names = {name.removeprefix("model."): p for name, p in self.scorer.named_parameters()}
        self.computing: list[Tensor] = [names[name] for name in self.weights]
        self.start = [w.detach().clone() for w in self.computing] if compares(config) else None

    def score(self, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        logprobs, entropies = self.scorer(batch, temperature)
        return logprobs, entropies

    def score_start(self, batch: MicroBatch, temperature: float) -> Tensor:
        if self.start is None:
            raise RuntimeError(NOT_KEPT)
        names = ("model." + name for name in self.weights)
        with torch.no_grad():
            logprobs: Tensor = functional_call(
                self.scorer, dict(zip(names, self.start, strict=True)), (batch, temperature)
            )[0]
        return logprobs

    def backward(self, loss: Tensor) -> None:
        loss.backward()
        if self.dtype == torch.float32:
            return
        for weight, copied in zip(self.weights.values(), self.computing, strict=True):
            if copied.grad is None:
                continue
            if weight.grad is None:
                weight.grad = copied.grad.float()
            else:
                weight.grad.add_(copied.grad)
            copied.grad = None

    def idle(self, *, start: bool, learn: bool) -> None:
        return

    def discard(self) -> None:
        for weight in (*self.weights.values(), *self.computing):
            weight.grad = None

    def collect(self) -> None:
        if self.team.size == 1:
            return
        weights = list(self.weights.values())
        held = torch.tensor([float(w.grad is not None) for w in weights], device=self.team.device)
        self.team.add([held])
        moved = [w for w, count in zip(weights, held.tolist(), strict=True) if count]
        for weight in moved:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.team.add([weight.grad for weight in moved if weight.grad is not None])

    def follow(self) -> None:
        if self.dtype != torch.float32:
            with torch.no_grad():
                torch._foreach_copy_(self.computing, list(self.weights.values()))

    def state(self) -> dict[str, Tensor]:
        return merged_state(self.model) if self.team.leads else {}

    def mark(self) -> str:
        sums = [weight.detach().sum(dtype=torch.float64) for weight in self.weights.values()]
        return float(torch.stack(sums).sum()).hex()

    def write(self, folder: Path, line: str, kind: Kind, tensors: Mapping[str, Tensor]) -> None:
        if self.team.leads:
            write_whole(folder, line, kind, tensors)

    def read(self, kept: Kept, name: str, like: Tensor) -> Tensor:
        # AdamW's count of steps too: fused, it is read where the weights are
        return kept.read(name).to(like.device)


NOT_KEPT = (
    "the starting weights are kept only where objective.kl is above 0 or an offline objective "
    "compares with them"
)


def compares(config: RunConfig) -> bool:
    """Whether the run's loss holds the policy against the weights it started from."""
    return config.objective.kl > 0 or config.offline.compares


def _computed_in(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy that computes in `dtype`. Buffers keep theirs: rounded, the rotary frequencies would
    be off by more than a radian some thousand tokens into a text."""
    twin = copy.deepcopy(model)
    for weight in twin.parameters():
        weight.data = weight.data.to(dtype)
    return twin
