"""Sampling by transformers' continuous batching, for machines without vLLM.

The library schedules and reads: requests join and leave a batch as they begin and end, over pages
of keys that equal beginnings share. What it does not do is draw (`draws`): the token of each row is
the one that the rollout's own stream of numbers picks. So a completion depends on weights, prompt,
temperature and its own seed, as `sampling` has it for the local engine, up to the arithmetic of
differently shaped matrices; nothing is cut by top-k or top-p, and its log-probabilities are those
of the distribution it was drawn from.

Without a kernel for such batches (flash attention on a GPU) every row is masked against every
other's keys, so few rows are read at once, and the local engine is the faster one: on a CPU four
to six times (`tests/bench_engine.py --batching`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching import ContinuousBatchingManager

from pipeline.engine.draws import Draws, alone
from pipeline.engine.local import LocalEngine
from pipeline.engine.sampling import check
from pipeline.models.policy import longest_row
from pipeline.ports import Confidences, Sample, SampleRequest, ScoreRequest, Scores

PAGE = 32  # tokens of a page of keys
WAIT = 0.2  # seconds between looks at whether the library still runs


class BatchingFailed(RuntimeError):
    """Continuous batching gave up; nothing that it wrote is used."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is read at once; completions do not depend on it.

    rows    requests of a batch
    tokens  tokens of a batch, prompts' included
    """

    rows: int = 64
    tokens: int = 1024

    @classmethod
    def of(cls, device: torch.device) -> Room:
        """A CPU masks rows against each other's keys: 32 took less time than 16, 64 or 256."""
        return cls(32, 256) if device.type == "cpu" else cls()


class BatchingEngine:
    """Fills `ports.WeightedEngine`: samples by continuous batching, scores as `local` does.

    local    whose weights it has, and who scores and confides
    model    a model that reads these very weights (`policy.borrowed`), with an attention of the
             library's; it is the engine's own
    eos_ids  what ends a completion

    Pages of keys end with the call, so after `load` nothing computed from older weights answers.
    """

    def __init__(
        self,
        local: LocalEngine,
        model: PreTrainedModel,
        eos_ids: frozenset[int],
        room: Room | None = None,
    ) -> None:
        model.train(False)
        self._local, self._model, self._eos_ids = local, model, eos_ids
        self._room = room or Room.of(model.device)
        self._limit = longest_row(model)

    @property
    def version(self) -> str:
        """Id of the weights that answer now."""
        return self._local.version

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        """Copy published weights in; they answer under `version`."""
        self._local.load(state, version)

    def close(self) -> None:
        """Nothing to end: threads and pages end with each call."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-probabilities at temperature 1 of every target token, in order."""
        return self._local.score(requests)

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """How sure the weights are along every target, in order, at temperature 1."""
        return self._local.confide(requests)

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """Completions per request, one per seed, in order; the same call gives the same answer.

        Raises ValueError as the local engine does, BatchingFailed where the library gives up.
        """
        check(self._limit, requests, max_tokens, temperature)
        names = [[f"{place}-{n}" for n in range(len(r.seeds))] for place, r in enumerate(requests)]
        seeds = {
            name: seed
            for own, request in zip(names, requests, strict=True)
            for name, seed in zip(own, request.seeds, strict=True)
        }
        if not seeds:
            return [() for _ in requests]
        draws = Draws(seeds, max_tokens, temperature)
        longest = max(len(request.prompt) for request in requests) + max_tokens
        with self._manager(draws, longest) as manager:
            for own, request in zip(names, requests, strict=True):
                self._ask(manager, own, request.prompt, max_tokens)
            tokens = _finish(manager, len(seeds))
        return [
            tuple(self._sample(tokens[name], draws.logprobs[name]) for name in own) for own in names
        ]

    def _ask(
        self,
        manager: ContinuousBatchingManager,
        names: Sequence[str],
        prompt: tuple[int, ...],
        max_tokens: int,
    ) -> None:
        for name in names:
            manager.add_request(
                list(prompt),
                request_id=name,
                max_new_tokens=max_tokens,
                eos_token_id=sorted(self._eos_ids),
            )

    def _sample(self, tokens: Sequence[int], logprobs: Sequence[float]) -> Sample:
        ended = tokens[-1] in self._eos_ids
        return Sample(tuple(tokens), tuple(logprobs), "end" if ended else "length")

    @contextmanager
    def _manager(self, draws: Draws, longest: int) -> Iterator[ContinuousBatchingManager]:
        """The library, ready to be asked and ended with the block; it sets torch's random state,
        which is put back though nothing here draws from it."""
        device = self._model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            manager = self._model.init_continuous_batching(  # type: ignore[operator] # a mixin's
                generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
                continuous_batching_config=_settings(self._room, longest),
            )
            manager.logit_processor = alone(draws)
            try:
                yield manager
            finally:
                manager.stop(block=True, hard_stop=True)
                manager.destroy()


def _settings(room: Room, longest: int) -> ContinuousBatchingConfig:
    """Pages for a whole batch of the longest rows, read one batch at a time."""
    settings = ContinuousBatchingConfig(
        num_blocks=room.rows * (math.ceil(longest / PAGE) + 1),
        max_batch_tokens=room.tokens,
        max_requests_per_batch=room.rows,
        use_async_batching=False,
        use_cuda_graph=False,
        seed=0,
    )
    # what transformers 5.17 calls a block is a page in later ones
    known = {field.name for field in fields(ContinuousBatchingConfig)}
    setattr(settings, "page_size" if "page_size" in known else "block_size", PAGE)
    return settings


def _finish(manager: ContinuousBatchingManager, count: int) -> dict[str, list[int]]:
    """Start reading what was asked, and wait for it: tokens by request.

    All was asked before, so that no batch depends on how fast requests come in.
    """
    manager.start()
    tokens: dict[str, list[int]] = {}
    while len(tokens) < count:
        done = manager.get_result(timeout=WAIT)
        if done is None:
            if not manager.is_running():
                error = manager.background_thread_status.fatal_error
                raise BatchingFailed(f"continuous batching ended early: {error}")
        elif done.error is not None:
            raise BatchingFailed(f"continuous batching failed: {done.error}")
        elif done.is_finished():
            tokens[done.request_id] = done.generated_tokens
    return tokens
