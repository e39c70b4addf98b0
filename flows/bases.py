"""Copies of the base: what trains, what samples and scores, and how it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.prompts import Style
from flows.errors import Refusal
from pipeline.config import ModelConfig
from pipeline.engine.local import LocalEngine
from pipeline.files.published import Format
from pipeline.models.policy import (
    DTYPES,
    State,
    borrowed,
    end_ids,
    load_policy,
    load_trainable,
    longest_row,
    merged_state,
    pick_device,
    replica,
)
from pipeline.ports import WeightedEngine

TINY = Path(__file__).resolve().parent.parent / "pipeline" / "worlds" / "tiny_base"


class Bases:
    """Copies of one base model, its tokenizer, its prompt style and how much it can read.

    The base as it was read, in float32, stays in the machine's memory; on the device is only what
    trains, samples or scores.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.place = place_of(config)
        self.device = pick_device(config.device)
        self._first, self.tokenizer = load_policy(self.place, dtype=torch.float32, device="cpu")
        self.style = style_of(self.place, self.tokenizer)
        self.context = longest_row(self._first)
        self.ends = end_ids(self._first, self.tokenizer)

    def trainable(self) -> PreTrainedModel:
        return load_trainable(self.place, self.config, self.device)

    def engine(self, dtype: str, version: str) -> LocalEngine:
        """The local engine over a copy of the base, with weights of its own."""
        return self._local(replica(self._first, DTYPES[dtype], self.device), version)

    def batching(self, dtype: str, version: str) -> WeightedEngine:
        """The same, sampling by transformers' continuous batching. Raises Refusal without it."""
        try:
            from pipeline.engine.batching import BatchingEngine  # noqa: PLC0415 - may be missing
        except ImportError as error:
            raise Refusal(
                f'engine.sampler "batching": this transformers cannot do it ({error})',
                remedy="pip install 'transformers>=5.17', or use engine.sampler=local",
            ) from error
        model = replica(self._first, DTYPES[dtype], self.device)
        twin = borrowed(model, merged_state(model), DTYPES[dtype], self.device)
        return BatchingEngine(self._local(model, version), twin, self.ends)

    def reading(self, state: State, dtype: str, version: str) -> LocalEngine:
        """The local engine over these very weights: not copied where they are in `dtype`."""
        return self._local(borrowed(self._first, state, DTYPES[dtype], self.device), version)

    def state(self) -> dict[str, Tensor]:
        """The base's own weights, by their plain names."""
        return merged_state(self._first)

    def _local(self, model: PreTrainedModel, version: str) -> LocalEngine:
        pad = self.tokenizer.pad_token_id
        return LocalEngine(
            model,
            eos_ids=self.ends,
            pad_id=pad if isinstance(pad, int) else 0,
            version=version,
            words=len(self.tokenizer),
        )

    def format(self, dtype: str) -> Format:
        """How an engine of that format holds them."""
        return Format(DTYPES[dtype], frozenset(name for name, _ in self._first.named_buffers()))


def style_of(place: str, tokenizer: PreTrainedTokenizerBase) -> Style:
    """Plain where the base's own file says so, chat with a chat template, else instructed."""
    made = Path(place) / "coclimb.json"
    if made.is_file() and json.loads(made.read_text()).get("style") == "plain":
        return "plain"
    return "chat" if tokenizer.chat_template else "instructed"


def place_of(config: ModelConfig) -> str:
    """The folder or Hub name of the base."""
    return str(TINY) if config.base == "tiny" else config.base
