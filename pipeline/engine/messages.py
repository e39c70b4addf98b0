"""Calls of an engine and their answers as bytes, for whoever answers in another process."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter

from pipeline.items import Item, Kind, WeightsFile
from pipeline.ports import Confidences, Engine, Sample, SampleRequest, ScoreRequest, Scores

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SampleAsk:
    """What `Engine.sample` is called with."""

    requests: tuple[SampleRequest, ...]
    max_tokens: int
    temperature: float


@dataclass(frozen=True, slots=True)
class ScoreAsk:
    """What `Engine.score` or `Engine.confide` is called with."""

    requests: tuple[ScoreRequest, ...]


# a number that is none comes back as it was: whoever reads the answer gives it its status
_AS_IT_IS = ConfigDict(ser_json_inf_nan="constants")
_SAMPLE_ASK, _SCORE_ASK = TypeAdapter(SampleAsk), TypeAdapter(ScoreAsk)
_SAMPLES = TypeAdapter(list[tuple[Sample, ...]], config=_AS_IT_IS)
_SCORES = TypeAdapter(list[Scores], config=_AS_IT_IS)
_CONFIDENCES = TypeAdapter(list[Confidences], config=_AS_IT_IS)


def sample_item(
    weights: WeightsFile, requests: Sequence[SampleRequest], max_tokens: int, temperature: float
) -> Item:
    """A call of `Engine.sample` as an item."""
    ask = _write(_SAMPLE_ASK, SampleAsk(tuple(requests), max_tokens, temperature))
    return _item(weights, "sample", sum(len(request.seeds) for request in requests), ask)


def score_item(weights: WeightsFile, kind: Kind, requests: Sequence[ScoreRequest]) -> Item:
    """A call of `Engine.score` or `Engine.confide` as an item."""
    rows = sum(len(targets) for request in requests for targets in request.targets)
    return _item(weights, kind, rows, _write(_SCORE_ASK, ScoreAsk(tuple(requests))))


def answer(engine: Engine, item: Item) -> bytes:
    """Work an item out with an engine that holds its weights."""
    if item.kind == "sample":
        ask = _read(_SAMPLE_ASK, item.ask)
        made = engine.sample(ask.requests, max_tokens=ask.max_tokens, temperature=ask.temperature)
        return _write(_SAMPLES, made)
    requests = _read(_SCORE_ASK, item.ask).requests
    if item.kind == "score":
        return _write(_SCORES, engine.score(requests))
    return _write(_CONFIDENCES, engine.confide(requests))


def samples_of(data: bytes) -> list[tuple[Sample, ...]]:
    """The answer of a "sample" item."""
    return _read(_SAMPLES, data)


def scores_of(data: bytes) -> list[Scores]:
    """The answer of a "score" item."""
    return _read(_SCORES, data)


def confidences_of(data: bytes) -> list[Confidences]:
    """The answer of a "confide" item."""
    return _read(_CONFIDENCES, data)


def _item(weights: WeightsFile, kind: Kind, rows: int, ask: bytes) -> Item:
    name = hashlib.sha256(f"{weights.sha256}/{weights.version}/{kind}/".encode() + ask).hexdigest()
    return Item(name, weights, kind, rows, ask)


def _write(shape: TypeAdapter[T], value: T) -> bytes:
    return zlib.compress(shape.dump_json(value), 1)


def _read(shape: TypeAdapter[T], data: bytes) -> T:
    return shape.validate_json(zlib.decompress(data))
