"""The engine that runs in this process: a transformers causal language model, read in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.engine.grouped import use_grouped
from pipeline.engine.rows import Reader
from pipeline.engine.sampling import Sampling, sample
from pipeline.engine.scoring import Scoring, confide, score
from pipeline.models.policy import copy_weights
from pipeline.ports import Confidences, Sample, SampleRequest, ScoreRequest, Scores


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is held at once; results do not depend on it.

    cache_bytes  keys and values of the rows being continued
    tokens       padded tokens scored in one forward
    logits       logits made in one forward, 4 bytes each
    """

    cache_bytes: int = 4 * 2**30
    tokens: int = 8192
    logits: int = 2**27

    @classmethod
    def of(cls, device: torch.device) -> Limits:
        """A CPU reads fewer tokens at once: more of them would leave its cache between layers,
        which took 1.4 times as long for the tiny base, and rows of less like width share a batch.
        """
        return cls(tokens=768) if device.type == "cpu" else cls()


class LocalEngine:
    """Samples and scores with `model`, in its dtype and on its device. Fills `ports.Engine`.

    The model is put into eval mode and belongs to the engine: `load` writes into its weights, and
    on a CPU its attention reads shared keys without a copy. No
    keys or values outlive a call, so after `load` nothing computed from older weights can answer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        eos_ids: frozenset[int],
        pad_id: int,
        version: str,
        limits: Limits | None = None,
        words: int | None = None,
    ) -> None:
        """Raises ValueError for a model that does not work through keys and values alone.

        words  how many ids stand for a token, where the head is padded beyond them; None: all
        """
        model.train(False)
        use_grouped(model)
        self._model = model
        self._reader = Reader.of(model)
        self._eos_ids = eos_ids
        self._pad_id = pad_id
        self._version = version
        self._limits = limits or Limits.of(model.device)
        self._words = min(words or self._reader.vocab, self._reader.vocab)
        self._cells = self._limits.cache_bytes // self._column_bytes()

    @property
    def version(self) -> str:
        """Id of the weights that answer now."""
        return self._version

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        """Copy published weights in, across dtypes and devices; they answer under `version`."""
        copy_weights(self._model, state)
        self._version = version

    def close(self) -> None:
        """Nothing to end: the weights go with the engine."""

    @torch.inference_mode()
    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """Completions per request, one per seed, in order; see `sampling` for what they depend on.

        A completion that wrote an end token stops with it ("end"); otherwise at `max_tokens`
        ("length"). Log-probabilities are at the temperature; at temperature 0, which takes the most
        probable token whatever the seed, they are at 1.
        """
        how = Sampling(max_tokens, temperature, self._eos_ids, self._pad_id, self._cells)
        return sample(self._reader, requests, how)

    @torch.inference_mode()
    def score(self, requests: Sequence[ScoreRequest], *, temperature: float = 1.0) -> list[Scores]:
        """Log-probabilities of every target token, in order; at a temperature above 0 other than
        1, what `sample` tells of tokens that it draws there."""
        return score(self._reader, requests, self._scoring(), temperature)

    @torch.inference_mode()
    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """How sure the weights are along every target, in order, at temperature 1.

        Certainty and entropy are among the ids that stand for a token (`words`).
        """
        return confide(self._reader, requests, self._scoring(), self._words)

    def _scoring(self) -> Scoring:
        limits = self._limits
        return Scoring(limits.tokens, self._cells, limits.logits, self._pad_id)

    @torch.inference_mode()
    def _column_bytes(self) -> int:
        """Bytes that one token of one row keeps, found by reading one."""
        rows = self._reader.empty(1, 1)
        token = torch.tensor([[self._pad_id]], device=self._model.device)
        rows.read(token, torch.ones_like(token, dtype=torch.bool))
        return max(rows.slab.bytes(), 1)
