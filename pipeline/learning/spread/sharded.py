"""A shard of a line's weights in this process, the rest in others: torch's FSDP2 (fully_shard).

Each decoder layer is gathered while it computes and let go again, so memory holds a share of the
weights, gradients and moments, and one layer whole. In bfloat16 weights are gathered and compute
in it, their gradients are summed in float32 into float32 shards: what a copy that computes does
for whole weights, without the copy.

Gathering waits for every process, so all take the same number of micro-batches: who has fewer
takes `idle` ones, whose loss is multiplied by 0.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.batch import MicroBatch, pack, row_of
from pipeline.config import RunConfig
from pipeline.learning.kept import Kept, Kind, Shards, span_of
from pipeline.learning.spread.whole import NOT_KEPT, compares
from pipeline.learning.team import Team
from pipeline.models.policy import DTYPES, merged_state
from pipeline.scorer import Scorer
from pipeline.types import Rollout


class Sharded:
    """Fills Held. The model is given whole, on the CPU or a GPU; its shards go to the team's
    device one layer after the other."""

    def __init__(self, model: PreTrainedModel, config: RunConfig, team: Team) -> None:
        self.model, self.team = model, team
        self.dtype = DTYPES[config.model.train_dtype]
        mesh = init_device_mesh(team.device.type, (team.size,))
        twin = copy.deepcopy(model).requires_grad_(False) if compares(config) else None
        recompute = config.learner.gradient_checkpointing
        self.scorer = _spread(Scorer(model, recompute=recompute), mesh, self.dtype)
        self.start = _spread(Scorer(twin), mesh, self.dtype) if twin is not None else None
        self.weights: dict[str, Tensor] = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        self._empty = _empty().on(team.device, self.dtype)

    def score(self, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        logprobs, entropies = self.scorer(batch, temperature)
        return logprobs, entropies

    def score_start(self, batch: MicroBatch, temperature: float) -> Tensor:
        if self.start is None:
            raise RuntimeError(NOT_KEPT)
        with torch.no_grad():
            logprobs: Tensor = self.start(batch, temperature)[0]
        return logprobs

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def idle(self, *, start: bool, learn: bool) -> None:
        with torch.set_grad_enabled(learn):
            logprobs = self.score(self._empty, 1.0)[0]
        if start:
            self.score_start(self._empty, 1.0)
        if learn:
            self.backward(logprobs.sum() * 0.0)

    def discard(self) -> None:
        for weight in self.weights.values():
            weight.grad = None

    def collect(self) -> None:
        return  # every backward pass has summed its own

    def follow(self) -> None:
        return  # what computes is gathered from the shards anew

    def state(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, weight in merged_state(self.model).items():
            whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
            if self.team.leads:  # one weight at a time leaves the device
                found[name] = whole.cpu()
        return found

    def mark(self) -> str:
        return ""

    def write(self, folder: Path, line: str, kind: Kind, tensors: Mapping[str, Tensor]) -> None:
        rows = {
            name: tensor.to_local() if isinstance(tensor, DTensor) else tensor
            for name, tensor in tensors.items()
        }
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for name, shape in shapes.items():
            start, stop = self._span(shape)
            if shape and len(rows[name]) != stop - start:
                raise RuntimeError(f"{name}: {len(rows[name])} rows here, expected {stop - start}")
        Shards(folder, line, self.team.rank, self.team.size).write(kind, rows, shapes)

    def read(self, kept: Kept, name: str, like: Tensor) -> Tensor:
        shape = kept.shapes[name]
        found = kept.read(name, self._span(shape) if shape else None).to(self.team.device)
        if not shape or not isinstance(like, DTensor):
            return found
        return DTensor.from_local(
            found, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
        )

    def _span(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return span_of(shape[0] if shape else 0, self.team.rank, self.team.size)


def _spread(scorer: Scorer, mesh: DeviceMesh, dtype: torch.dtype) -> Scorer:
    """Shard every decoder layer by itself, and what is left (embeddings, head) with the scorer."""
    computes = None if dtype == torch.float32 else dtype
    policy = MixedPrecisionPolicy(
        param_dtype=computes, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    layers = [m for m in scorer.modules() if isinstance(m, GradientCheckpointingLayer)]
    for module in (*layers, scorer):
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    for module in scorer.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum, by an operation that gloo has too
            module.set_force_sum_reduction_for_comms(True)
    return scorer


def _empty() -> MicroBatch:
    """The smallest micro-batch: a prompt of one token and one written."""
    rollout = Rollout("idle", (0, 0), (False, True), (0.0, 0.0), "", "end", 0, "")
    row = row_of(rollout, (), None, (0.0,))
    if row is None:
        raise RuntimeError("a row with a written token is never left out")
    return pack([row])
