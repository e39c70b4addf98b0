"""One line of weights in training: gradients in, one AdamW step out, all or nothing.

The optimizer holds float32 weights. In bfloat16 a copy of the model computes: its gradients are
added up in float32 and its weights follow each step, cast once a step and not once a micro-batch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from pipeline.batch import MicroBatch
from pipeline.config import LearnerConfig, RunConfig
from pipeline.policy import fingerprint, merged_state
from pipeline.scorer import Scorer
from pipeline.types import Line, Version

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Progress(BaseModel):
    """What of a line is neither weight nor moment.

    updates  optimiser steps taken, for the warm-up
    start    fingerprint of the weights the line began from
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    updates: int
    step: int
    parents: tuple[str, ...]
    checksum: str
    start: str


def step_size(peak: float, config: LearnerConfig, update: int, planned: int) -> float:
    """The size of optimiser step `update` (from 1) of a run of `planned` steps, at most `peak`.

    Step k of the warm-up takes k/warmup. From the first step to the last planned one the size
    falls in a straight line to final_share, and stays there.
    """
    warm = min(1.0, update / max(config.warmup, 1))
    done = min(1.0, (update - 1) / max(planned - 1, 1))
    return peak * warm * (1.0 - (1.0 - config.final_share) * done)


class Trainee:
    """Weights of one line, their optimizer, its position and version.

    model     float32 where it trains, plain or in LoRA adapters; put into eval mode, so that no
              dropout acts. It belongs to the line from now on
    """

    def __init__(self, line: Line, model: nn.Module, config: RunConfig) -> None:
        self.line, self.model, self.config = line, _causal(model).eval(), config.learner
        self.weights = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if strange := sorted({str(p.dtype) for p in self.weights.values()} - {"torch.float32"}):
            raise ValueError(
                f"{line}: weights in training are {', '.join(strange)}; load them as float32"
            )
        self.dtype = DTYPES[config.model.train_dtype]
        computing = (
            self.model if self.dtype == torch.float32 else _computed_in(self.model, self.dtype)
        )
        self.accelerator = Accelerator(cpu=self.model.device.type == "cpu", device_placement=False)
        if self.accelerator.num_processes > 1:
            raise ValueError("the learner runs in one process; start it without a launcher")
        adam = torch.optim.AdamW(
            list(self.weights.values()),
            lr=config.peak_rate,
            betas=config.learner.betas,
            weight_decay=config.learner.weight_decay,
            fused=True,
        )
        self.adam = adam
        self.scorer, self.optimizer = self.accelerator.prepare(Scorer(computing), adam)
        names = {name.removeprefix("model."): p for name, p in self.scorer.named_parameters()}
        self.computing = [names[name] for name in self.weights]
        compares = config.objective.kl > 0 or config.offline.compares
        self.start = _frozen(self.computing) if compares else None
        self.start_print = fingerprint(self.state())
        self.updates, self.planned = 0, config.rounds * config.steps
        self.peak = config.peak_rate
        self.version = Version(f"{line}@0", line, 0, checksum=self.start_print)

    def state(self) -> dict[str, Tensor]:
        """Full weights by their plain names; shared with the model where nothing is merged."""
        return merged_state(self.model)

    def score(self, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probabilities [S + A] with gradient, and entropies [S]."""
        logprobs, entropies = self.scorer(batch, temperature)
        return logprobs, entropies

    def score_start(self, batch: MicroBatch, temperature: float) -> Tensor:
        """Log-probabilities [S + A] under the weights this line started from, without gradient."""
        if self.start is None:
            raise RuntimeError(
                "the starting weights are kept only where objective.kl is above 0 or an offline "
                "objective compares with them"
            )
        names = ("model." + name for name in self.weights)
        with torch.no_grad():
            logprobs: Tensor = functional_call(
                self.scorer, dict(zip(names, self.start, strict=True)), (batch, temperature)
            )[0]
        return logprobs

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the step's, in float32."""
        self.accelerator.backward(loss)
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

    def clip(self) -> float:
        """Scale the step's gradient down to the configured norm; its norm before that."""
        return float(
            self.accelerator.clip_grad_norm_(self.weights.values(), self.config.max_grad_norm)
        )

    def apply(self) -> None:
        """Take one optimiser step, of the size that `step_size` tells."""
        self.updates += 1
        for group in self.adam.param_groups:
            group["lr"] = step_size(self.peak, self.config, self.updates, self.planned)
        self.optimizer.step()
        self.discard()
        self._follow()

    def discard(self) -> None:
        """Forget the gradients gathered so far."""
        for weight in (*self.weights.values(), *self.computing):
            weight.grad = None

    def advance(self, step: int) -> None:
        """Name the present weights as those that `step` made."""
        checksum = fingerprint(self.state())
        self.version = Version(f"{self.line}@{step}", self.line, step, (self.version.id,), checksum)

    def _follow(self) -> None:
        if self.dtype != torch.float32:
            with torch.no_grad():
                torch._foreach_copy_(self.computing, list(self.weights.values()))

    def save(self, folder: Path) -> None:
        """Write weights in training, moments and position; the config names the frozen ones."""
        weights = {
            name: weight.detach().cpu().contiguous() for name, weight in self.weights.items()
        }
        save_file(weights, folder / f"{self.line}.weights.safetensors")
        moments = {
            f"{kind}.{name}": value.detach().cpu().contiguous()
            for name, weight in self.weights.items()
            for kind, value in self.adam.state.get(weight, {}).items()
        }
        save_file(moments, folder / f"{self.line}.moments.safetensors")
        kept = {
            key: value
            for key, value in asdict(self.version).items()
            if key in Progress.model_fields
        }
        progress = Progress(**kept, updates=self.updates, start=self.start_print)
        (folder / f"{self.line}.json").write_text(progress.model_dump_json(indent=1))

    def restore(self, folder: Path) -> None:
        """Read back what `save` wrote. Raises ValueError for another base or other shapes."""
        progress = Progress.model_validate_json((folder / f"{self.line}.json").read_text())
        if progress.start != self.start_print:
            raise ValueError(
                f"{folder}: the {self.line} began from other weights than these; "
                "load the base that the run's configuration names before restoring"
            )
        weights = load_file(folder / f"{self.line}.weights.safetensors")
        _match(weights, self.weights, folder)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(weights[name])
        moments = load_file(folder / f"{self.line}.moments.safetensors")
        self.adam.state.clear()
        for key, value in moments.items():
            kind, name = key.split(".", 1)
            weight = self.weights[name]
            self.adam.state[weight][kind] = value.to(weight.device)
        self.updates = progress.updates
        version = f"{self.line}@{progress.step}"
        self.version = Version(
            version, self.line, progress.step, progress.parents, progress.checksum
        )
        self.discard()
        self._follow()


def _causal(model: nn.Module) -> PreTrainedModel:
    """The causal LM itself, with its adapters where there are some."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise ValueError(
        f"{type(model).__name__} holds no transformers model; load one with load_policy"
    )


def _computed_in(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy that computes in `dtype`. Buffers keep theirs: rounded, the rotary frequencies would
    be off by more than a radian some thousand tokens into a text."""
    twin = copy.deepcopy(model)
    for weight in twin.parameters():
        weight.data = weight.data.to(dtype)
    return twin


def _frozen(weights: list[Tensor]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]


def _match(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], folder: Path) -> None:
    shapes = {name: tuple(x.shape) for name, x in found.items()}
    asked = {name: tuple(x.shape) for name, x in wanted.items()}
    if shapes != asked:
        odd = sorted(
            name for name in shapes.keys() | asked.keys() if shapes.get(name) != asked.get(name)
        )
        raise ValueError(
            f"{folder}: weights differ in name or shape from the model's, first {odd[0]}"
        )
