"""Copies of the base, and the engines over them that a configuration asks for."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.prompts import Style
from pipeline.config import ModelConfig, RunConfig
from pipeline.engine.local import LocalEngine
from pipeline.engine.served import ServedEngine, Serving
from pipeline.model_folder import find_folder
from pipeline.policy import (
    end_ids,
    load_policy,
    longest_row,
    pick_device,
    replica,
    wrap_lora,
)
from pipeline.ports import WeightedEngine
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
        self.ends = end_ids(self._first, self.tokenizer)

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
            eos_ids=self.ends,
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


def context_of(config: RunConfig, longest: int) -> int:
    """The longest row that every engine of a run reads, in tokens; `longest` is the base's own."""
    engine = config.engine
    served = "vllm" in (engine.sampler, engine.scorer)
    return min(longest, engine.context) if served and engine.context else longest


class Engines:
    """The engines of a run, each under weights of its own; closed together."""

    def __init__(self, bases: Bases, config: RunConfig) -> None:
        self.bases, self.config = bases, config
        self.context = context_of(config, bases.context)
        self._open = ExitStack()

    def sampler(self, line: Line) -> WeightedEngine:
        """What samples under a line's weights."""
        if self.config.engine.sampler == "vllm":
            return self._served(self.config.model.engine_dtype, f"{line}@0")
        return self._keep(self.bases.engine(self.config.model.engine_dtype, f"{line}@0"))

    def scorer(self) -> WeightedEngine:
        """What scores under the proxy's weights."""
        if self.config.engine.scorer == "vllm":
            return self._served(self.config.model.proxy_dtype, "proxy@0")
        return self._keep(self.bases.engine(self.config.model.proxy_dtype, "proxy@0"))

    def _served(self, dtype: str, version: str) -> WeightedEngine:
        """An engine in a process of its own, which starts now."""
        engine = self.config.engine
        serving = Serving(
            python=engine.python,
            folder=find_folder(self.bases.place),
            device=self.bases.device,
            dtype=DTYPES[dtype],
            context=self.context,
            memory=engine.memory,
            start_seconds=engine.start_seconds,
            answer_seconds=engine.answer_seconds,
        )
        return self._keep(ServedEngine(serving, eos_ids=self.bases.ends, version=version))

    def close(self) -> None:
        """End every process that an engine started."""
        self._open.close()

    def _keep(self, engine: WeightedEngine) -> WeightedEngine:
        self._open.callback(engine.close)
        return engine
