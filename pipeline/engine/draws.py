"""Which token comes next in each row of a continuous batch: drawn here, from the rollout's seed.

Imports what transformers calls continuous batching; ImportError where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.requests import FutureRequestState

from pipeline.engine.sampling import pick, streams


class Draws(ContinuousBatchingLogitsProcessor):
    """Leaves one token of each row: that which the row's own stream picks at the temperature.

    Between the library's preparing a batch and reading it, it is told whose rows have a next token;
    so nothing may run ahead of what was read (no asynchronous batches).

    logprobs  by request: of every token drawn so far, at the temperature, or at 1 where that is 0
    """

    supported_kwargs: dict[str, type] = {}  # noqa: RUF012 - the library's own contract
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, seeds: Mapping[str, int], max_tokens: int, temperature: float) -> None:
        """seeds: of every request, by its id."""
        rows = streams(list(seeds.values()), max_tokens)
        self._streams = dict(zip(seeds, rows, strict=True))
        self._temperature = temperature
        self._turn: list[str] = []
        self.logprobs: dict[str, list[float]] = {name: [] for name in seeds}

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        """What stands where no request does."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: Sequence[FutureRequestState]) -> Tensor:
        """[rows] the next number of each row's stream: float32 by its bits, as int32."""
        self._turn = [request.state.request_id for request in requests_with_new_token]
        numbers = [self._streams[name][len(self.logprobs[name])] for name in self._turn]
        return torch.from_numpy(np.array(numbers, dtype=np.float32)).view(torch.int32)

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """scores [rows, V] -> [rows, V]: 0 for the token drawn, -inf for every other."""
        uniforms = tensor_arg[: len(scores)].view(torch.float32)
        tokens, logprobs = pick(scores, uniforms, self._temperature)
        # rows without a next token come behind those that have one
        for name, logprob in zip(self._turn, logprobs.tolist(), strict=False):
            self.logprobs[name].append(logprob)
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)


def alone(draws: Draws) -> ContinuousBatchingLogitsProcessorList:
    """A list of processors with these draws in it, which wants one number per row."""
    made = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([draws]))
    made.tensors_required = 1
    return made
