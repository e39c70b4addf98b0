"""Completions drawn by inverse CDF, each from its own random stream.

Token t of a completion is the first whose cumulative probability exceeds the t-th number of the
stream of its seed (Philox, counter-based). So a completion depends on weights, prompt, temperature
and seed, and on nothing that shares its batch, as far as its logits do not: matrix kernels choose
their order of summation by shape, which moves a logit by about 1e-6 in float32 and 1e-2 in
bfloat16. A draw that falls within that of a boundary may then take the neighbouring token, and the
completions part from there. In float32 this is rare (about 1e-6 per token), in bfloat16 it is not.

At temperature 0 nothing is drawn: each token is the most probable one, the lowest id of equals, and
its log-probability is the one at temperature 1, since at 0 it would always be 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.engine.rows import Reader, Rows
from pipeline.ports import Sample, SampleRequest

CHECK = 4  # steps between looks at who has finished; a look stops a GPU's queue
LEAVE = 8  # finished rows leave once they are one in this many


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn and when they end.

    temperature  above 0, or 0 for the most probable token
    max_tokens   longest completion, its end token included
    cells        most key-value columns (rows times columns) held at once
    """

    max_tokens: int
    temperature: float
    eos_ids: frozenset[int]
    pad_id: int
    cells: int


def sample(
    reader: Reader, requests: Sequence[SampleRequest], how: Sampling
) -> list[tuple[Sample, ...]]:
    """Completions per request, one per seed, in order.

    Raises ValueError for an empty prompt, for one that leaves no room for `max_tokens` before the
    model's longest row, and for a temperature below 0 or not finite.
    """
    check(reader.limit, requests, how.max_tokens, how.temperature)
    results: list[list[Sample]] = [[] for _ in requests]
    for wave in _waves(requests, how):
        for (place, _), made in zip(wave, _draw(reader, requests, wave, how), strict=True):
            results[place].append(made)
    return [tuple(samples) for samples in results]


def check(
    limit: int, requests: Sequence[SampleRequest], max_tokens: int, temperature: float
) -> None:
    """Raise ValueError for what cannot be sampled; limit: the longest row that the model reads."""
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; it must be finite and at least 0")
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; a completion has at least 1 token")
    for place, request in enumerate(requests):
        length = len(request.prompt)
        if not length:
            raise ValueError(f"request {place}: the prompt is empty; give it at least one token")
        if length + max_tokens > limit:
            raise ValueError(
                f"request {place}: prompt of {length} + max_tokens {max_tokens} = "
                f"{length + max_tokens} tokens, the model reads {limit}; "
                "shorten the prompt or lower max_tokens"
            )


def _waves(requests: Sequence[SampleRequest], how: Sampling) -> Iterator[list[tuple[int, int]]]:
    """(request, seed) pairs, prompts of like length together, each wave within `how.cells`."""
    order = sorted(range(len(requests)), key=lambda place: len(requests[place].prompt))
    wave: list[tuple[int, int]] = []
    for place in order:
        columns = len(requests[place].prompt) + how.max_tokens
        for seed in requests[place].seeds:
            if wave and (len(wave) + 1) * columns > how.cells:
                yield wave
                wave = []
            wave.append((place, seed))
    if wave:
        yield wave


def _draw(
    reader: Reader,
    requests: Sequence[SampleRequest],
    wave: list[tuple[int, int]],
    how: Sampling,
) -> list[Sample]:
    """One sample per (request, seed) of the wave; each distinct prompt is read once."""
    prompts = {requests[place].prompt: None for place, _ in wave}
    seats = {prompt: row for row, prompt in enumerate(prompts)}
    owner = torch.tensor([seats[requests[place].prompt] for place, _ in wave])
    uniforms = torch.from_numpy(streams([seed for _, seed in wave], how.max_tokens))
    rows, logits = _prefill(reader, list(prompts), how)
    device = logits.device
    owner = owner.to(device)
    rows = rows.repeat(owner, rows.used + how.max_tokens)
    run = _Run(rows, uniforms.to(device), how)
    return run.finish(logits.index_select(0, owner))


def streams(seeds: Sequence[int], length: int) -> np.ndarray:
    """[len(seeds), length] float32 in [0, 1): row i is the start of the stream of seeds[i].

    A longer row begins with the shorter one. Numbers are multiples of 2^-24.
    """
    rows = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
    return np.stack([row.random(length, dtype=np.float32) for row in rows])


def _prefill(reader: Reader, prompts: list[tuple[int, ...]], how: Sampling) -> tuple[Rows, Tensor]:
    """Read the prompts, padded on the left; logits [B, V] that follow them."""
    width = max(map(len, prompts))
    ids = torch.tensor([(how.pad_id,) * (width - len(p)) + p for p in prompts])
    real = torch.arange(width) >= torch.tensor([[width - len(p)] for p in prompts])
    rows = reader.empty(len(prompts), width)
    device = reader.model.device
    return rows, rows.last_logits(ids.to(device), real.to(device))


def pick(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw one token per row: logits [B, V], uniforms [B] in [0, 1) -> tokens [B], logprobs [B].

    The token is the first whose cumulative probability exceeds the uniform; float32 throughout;
    log-probabilities are at the temperature. At temperature 0 it is `top`'s, whatever the uniform.
    """
    if temperature == 0.0:
        return top(logits)
    logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
    cumulative = logprobs.exp().cumsum(dim=-1)
    total = cumulative[:, -1:]
    below = torch.nextafter(total, torch.zeros_like(total))
    bound = torch.minimum(uniforms[:, None] * total, below)
    tokens = torch.searchsorted(cumulative, bound, right=True)
    return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]


def top(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable token per row, the lowest id of equals, and its log-probability at 1."""
    tokens = logits.argmax(dim=-1, keepdim=True)  # torch gives the first of equals
    logprobs = torch.log_softmax(logits.float(), dim=-1).gather(1, tokens)
    return tokens[:, 0], logprobs[:, 0]


class _Run:
    """Rows being continued together. `alive` [B] names each row's place in the wave."""

    def __init__(self, rows: Rows, uniforms: Tensor, how: Sampling) -> None:
        self.rows = rows
        self.how = how
        self.uniforms = uniforms  # [N, T]
        self.alive = torch.arange(len(uniforms), device=uniforms.device)
        self.tokens = torch.full(uniforms.shape, how.pad_id, device=uniforms.device)  # [N, T]
        self.logprobs = torch.zeros_like(uniforms)  # [N, T]
        ends = torch.zeros(rows.reader.vocab, dtype=torch.bool)
        ends[list(how.eos_ids)] = True
        self.ends = ends.to(uniforms.device)

    def finish(self, logits: Tensor) -> list[Sample]:
        """Continue every row to its end or to the budget; logits [N, V] follow the prompts."""
        over = torch.zeros_like(self.alive, dtype=torch.bool)
        uniforms = self.uniforms.T.contiguous()  # [T, B]
        for place in range(self.how.max_tokens):
            tokens, logprobs = pick(logits, uniforms[place], self.how.temperature)
            self.tokens[self.alive, place] = tokens
            self.logprobs[self.alive, place] = logprobs
            over |= self.ends[tokens]
            if place + 1 == self.how.max_tokens:
                break
            if place % CHECK == CHECK - 1:
                gone = int(over.sum())
                if gone == len(over):
                    break
                if gone * LEAVE >= len(over):
                    stay = (~over).nonzero()[:, 0]
                    self.rows.keep(stay)
                    self.alive, over = self.alive[stay], over[stay]
                    tokens, uniforms = tokens[stay], uniforms[:, stay]
            logits = self.rows.step(tokens)
        return self._samples()

    def _samples(self) -> list[Sample]:
        """Each row cut after its first end token."""
        ended = self.ends[self.tokens]
        lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, ended.shape[1])
        made = []
        for tokens, logprobs, length, end in zip(
            self.tokens.tolist(),
            self.logprobs.tolist(),
            lengths.tolist(),
            ended.any(1).tolist(),
            strict=True,
        ):
            stop: Literal["end", "length"] = "end" if end else "length"
            made.append(Sample(tuple(tokens[:length]), tuple(logprobs[:length]), stop))
        return made
