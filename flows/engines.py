"""Copies of the base, and the engines over them that a configuration asks for.

A run asks its engines whole, shard by shard, or through its queue (`Engines.asked`); who answers,
here or in a worker, has them bare (`Engines.bare`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.prompts import Style
from pipeline.config import ModelConfig, RunConfig
from pipeline.engine.local import LocalEngine
from pipeline.engine.queued import Outlet, Queued
from pipeline.engine.sharded import Sharded
from pipeline.policy import (
    end_ids,
    load_policy,
    longest_row,
    merged_state,
    pick_device,
    replica,
    wrap_lora,
)
from pipeline.ports import WeightedEngine
from pipeline.published import Format
from pipeline.trainee import DTYPES
from pipeline.types import Line

TINY = Path(__file__).resolve().parent.parent / "pipeline" / "worlds" / "tiny_base"


class Bases:
    """Copies of one base model, its tokenizer, its prompt style and how much it can read."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.place = place_of(config)
        self.device = pick_device(config.device)
        self._first, self.tokenizer = load_policy(
            self.place, dtype=torch.float32, device=self.device
        )
        self.style = style_of(self.place, self.tokenizer)
        self.context = longest_row(self._first)

    def trainable(self) -> PreTrainedModel:
        model, _ = load_policy(self.place, dtype=torch.float32, device=self.device)
        if self.config.lora_rank > 0:
            # peft's wrapper answers as the model it wraps
            wrapped = wrap_lora(model, self.config.lora_rank, self.config.lora_alpha)
            return cast(PreTrainedModel, wrapped)
        return model

    def engine(self, dtype: str, version: str) -> LocalEngine:
        model = replica(self._first, DTYPES[dtype])
        pad = self.tokenizer.pad_token_id
        return LocalEngine(
            model,
            eos_ids=end_ids(model, self.tokenizer),
            pad_id=pad if isinstance(pad, int) else 0,
            version=version,
            words=len(self.tokenizer),
        )

    def state(self) -> dict[str, Tensor]:
        """The base's own weights, as `PolicyLearner.state` gives those in training."""
        return merged_state(self._first)

    def format(self, dtype: str) -> Format:
        """How an engine of that format holds them."""
        return Format(DTYPES[dtype], frozenset(name for name, _ in self._first.named_buffers()))


def alone(config: RunConfig) -> RunConfig:
    """The configuration of a run for who looks at it without being it: nothing is queued."""
    return config.model_copy(update={"work": config.work.model_copy(update={"queue": False})})


def style_of(place: str, tokenizer: PreTrainedTokenizerBase) -> Style:
    """Plain where the base's own file says so, chat with a chat template, else instructed."""
    made = Path(place) / "coclimb.json"
    if made.is_file() and json.loads(made.read_text()).get("style") == "plain":
        return "plain"
    return "chat" if tokenizer.chat_template else "instructed"


def place_of(config: ModelConfig) -> str:
    """The folder or Hub name of the base."""
    return str(TINY) if config.base == "tiny" else config.base


class Engines:
    """The engines of a run, each under weights of its own; closed together.

    outlet  where calls go that a run queues; opened once the run is alive
    """

    def __init__(self, bases: Bases, config: RunConfig) -> None:
        self.bases, self.config = bases, config
        self.outlet = Outlet()
        self._open = ExitStack()

    def asked(self, line: str) -> WeightedEngine:
        """What a run asks under a line's weights, or under those it began with ("start").

        Queued, the engine itself is made only where this process works items out too.
        """
        work = self.config.work
        if not work.queue:
            bare = self.bare(line)
            return Sharded(bare, work.shard) if work.shard else bare
        helper = self.bare(line) if work.helps else None
        form = self.bases.format(_dtype(self.config, line))
        queued = Queued(line, self.outlet, helper, form, work.shard)
        queued.load(self.bases.state(), f"{'solver' if line == 'start' else line}@0")
        return queued

    def bare(self, line: str) -> WeightedEngine:
        """The engine itself, in this process or one of its own, under the base's weights."""
        makers: dict[str, Callable[[], WeightedEngine]] = {
            "solver": lambda: self.sampler("solver"),
            "generator": lambda: self.sampler("generator"),
            "proxy": self.scorer,
            "start": self.start,
        }
        if line not in makers:
            raise ValueError(f"no engine is known for weights {line!r}; is this worker older?")
        return makers[line]()

    def sampler(self, line: Line) -> WeightedEngine:
        """What samples under a line's weights."""
        return self._keep(self.bases.engine(self.config.model.engine_dtype, f"{line}@0"))

    def scorer(self) -> WeightedEngine:
        """What scores under the proxy's weights."""
        return self._keep(self.bases.engine(self.config.model.proxy_dtype, "proxy@0"))

    def start(self) -> WeightedEngine:
        """What scores under the weights that the run began with, in the sampler's format, so that
        the policy begins at no distance."""
        return self._keep(self.bases.engine(self.config.model.engine_dtype, "solver@0"))

    def close(self) -> None:
        """End every process that an engine started, and the way to workers."""
        self.outlet.close()
        self._open.close()

    def _keep(self, engine: WeightedEngine) -> WeightedEngine:
        self._open.callback(engine.close)
        return engine


def _dtype(config: RunConfig, line: str) -> str:
    return config.model.proxy_dtype if line == "proxy" else config.model.engine_dtype
