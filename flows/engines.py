"""Copies of the base, and the engines over them that a configuration asks for."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.prompts import Style
from pipeline.config import ModelConfig, RunConfig
from pipeline.engine.local import LocalEngine
from pipeline.policy import (
    DTYPES,
    end_ids,
    load_policy,
    load_trainable,
    longest_row,
    pick_device,
    replica,
)
from pipeline.ports import WeightedEngine
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
        return load_trainable(self.place, self.config, self.device)

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
    """The engines of a run, each under weights of its own; closed together."""

    def __init__(self, bases: Bases, config: RunConfig) -> None:
        self.bases, self.config = bases, config
        self._open = ExitStack()

    def sampler(self, line: Line) -> WeightedEngine:
        """What samples under a line's weights."""
        return self._keep(self.bases.engine(self.config.model.engine_dtype, f"{line}@0"))

    def scorer(self) -> WeightedEngine:
        """What scores under the proxy's weights."""
        return self._keep(self.bases.engine(self.config.model.proxy_dtype, "proxy@0"))

    def close(self) -> None:
        """End every process that an engine started."""
        self._open.close()

    def _keep(self, engine: WeightedEngine) -> WeightedEngine:
        self._open.callback(engine.close)
        return engine
