"""One line of weights in training: gradients in, one AdamW step out, all or nothing.

The optimizer holds float32 weights, as they are spread over the processes that train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from pipeline.batch import Row
from pipeline.config import LearnerConfig, RunConfig
from pipeline.learning.dealing import deal
from pipeline.learning.kept import Kept
from pipeline.learning.optimizers import OPTIMIZERS
from pipeline.learning.spread import hold
from pipeline.learning.team import Team, alone
from pipeline.models.policy import fingerprint, merged_state
from pipeline.types import Line, Version


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
    team      the processes that train it; None for this one alone
    """

    def __init__(
        self, line: Line, model: nn.Module, config: RunConfig, team: Team | None = None
    ) -> None:
        whole = _causal(model).eval()
        training = [weight for weight in whole.parameters() if weight.requires_grad]
        if strange := sorted({str(weight.dtype) for weight in training} - {"torch.float32"}):
            raise ValueError(
                f"{line}: weights in training are {', '.join(strange)}; load them as float32"
            )
        self.line, self.config = line, config.learner
        self.team = team or alone(whole.device)
        first = fingerprint(merged_state(whole)) if self.team.leads else ""
        self.start_print = self.team.hear(first)
        self.held = hold(whole, config, self.team)
        self.optimizer = OPTIMIZERS[config.learner.optimizer](
            list(self.held.weights.values()), config
        )
        self.updates, self.planned = 0, config.rounds * config.steps
        self.peak = config.peak_rate
        self.version = Version(f"{line}@0", line, 0, checksum=self.start_print)

    def state(self) -> dict[str, Tensor]:
        """Full weights by their plain names, in the process that leads; shared with the model
        where it holds them whole and nothing is merged."""
        return self.held.state()

    def share(
        self, rows: Sequence[Row], *, whole_groups: bool = False
    ) -> tuple[list[list[int]], int]:
        """The micro-batches of these rows that this process takes, and how many fewer those are
        than the most that one takes."""
        hands = deal(rows, self.config.token_budget, self.team.size, whole_groups=whole_groups)
        own = hands[self.team.rank]
        return own, max(map(len, hands)) - len(own)

    def clip(self) -> float:
        """Scale the whole step's gradient down to the configured norm; its norm before that."""
        self.held.collect()
        norm = nn.utils.clip_grad_norm_(self.held.weights.values(), self.config.max_grad_norm)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def apply(self) -> None:
        """Take one optimiser step, of the size that `step_size` tells."""
        self.updates += 1
        self.optimizer.step(step_size(self.peak, self.config, self.updates, self.planned))
        self.discard()
        self.held.follow()

    def discard(self) -> None:
        """Forget the gradients gathered so far."""
        self.held.discard()

    def advance(self, step: int) -> None:
        """Name the present weights as those that `step` made."""
        state = self.state()
        checksum = self.team.hear(fingerprint(state) if self.team.leads else "")
        self.version = Version(f"{self.line}@{step}", self.line, step, (self.version.id,), checksum)

    def save(self, folder: Path) -> None:
        """Write weights in training, moments and position; the config names the frozen ones."""
        weights = self.held.weights
        self.held.write(folder, self.line, "weights", weights)
        moments = {
            f"{kind}.{name}": value
            for name, weight in weights.items()
            for kind, value in self.optimizer.moments(weight).items()
        }
        self.held.write(folder, self.line, "moments", moments)
        kept = {
            key: value
            for key, value in asdict(self.version).items()
            if key in Progress.model_fields
        }
        progress = Progress(**kept, updates=self.updates, start=self.start_print)
        if self.team.leads:
            (folder / f"{self.line}.json").write_text(progress.model_dump_json(indent=1))

    def restore(self, folder: Path) -> None:
        """Read back what `save` wrote, in however many processes.

        Raises ValueError for another base, other shapes or another optimiser; nothing is changed.
        """
        progress = Progress.model_validate_json((folder / f"{self.line}.json").read_text())
        if progress.start != self.start_print:
            raise ValueError(
                f"{folder}: the {self.line} began from other weights than these; "
                "load the base that the run's configuration names before restoring"
            )
        with (
            Kept(folder, self.line, "weights") as kept,
            Kept(folder, self.line, "moments") as moments,
            torch.no_grad(),
        ):
            _match(kept.shapes, self.held.weights, folder)
            self.optimizer.check({key.split(".", 1)[0] for key in moments.shapes})
            for name, weight in self.held.weights.items():
                weight.copy_(self.held.read(kept, name, weight))
            self._restore_moments(moments)
        self.updates = progress.updates
        version = f"{self.line}@{progress.step}"
        self.version = Version(
            version, self.line, progress.step, progress.parents, progress.checksum
        )
        self.discard()
        self.held.follow()

    def _restore_moments(self, kept: Kept) -> None:
        found: dict[str, dict[str, Tensor]] = {name: {} for name in self.held.weights}
        for key in kept.shapes:
            kind, name = key.split(".", 1)
            found[name][kind] = self.held.read(kept, key, self.held.weights[name])
        for name, weight in self.held.weights.items():
            self.optimizer.put(weight, found[name])


def _causal(model: nn.Module) -> PreTrainedModel:
    """The causal LM itself, with its adapters where there are some."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise ValueError(
        f"{type(model).__name__} holds no transformers model; load one with load_policy"
    )


def _match(
    shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Tensor], folder: Path
) -> None:
    asked = {name: tuple(x.shape) for name, x in wanted.items()}
    if shapes != asked:
        odd = sorted(
            name for name in shapes.keys() | asked.keys() if shapes.get(name) != asked.get(name)
        )
        raise ValueError(
            f"{folder}: weights differ in name or shape from the model's, first {odd[0]}"
        )
