"""The engine that runs in a process of its own: vLLM, in whatever environment it is installed.

The process speaks `vllm_child`'s messages. It starts when the engine is made and is waited for when
it is first asked, so that engines start side by side. New weights go to it as a file, without a
restart; what it then holds is read back and compared. Weights must be whole: LoRA is merged before
(`policy.merged_state`), since vLLM's adapters keep what was computed under older ones.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from pipeline.engine.process import EngineFailed as EngineFailed
from pipeline.engine.process import Program
from pipeline.files.saving import save_tensors
from pipeline.ports import Confidences, Sample, SampleRequest, ScoreRequest, Scores

PROGRAM = Path(__file__).with_name("vllm_child.py")
MEMORY = Path("/dev/shm")  # weights go by way of memory where there is room
# what a worker holds repacked has no bytes under its name any more
NOTHING = hashlib.sha256().hexdigest()
TEMPERATURES = (0.01, 2.0)  # vLLM moves what lies below, and refuses what lies above


Tokens = tuple[int, ...]
T = TypeVar("T")


class NotServed(ValueError):
    """A served engine cannot tell this; the text names what can."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How an engine's own process is started.

    python   interpreter of the environment that has vLLM; "" for this one
    folder   of the base, in transformers' format
    device   "cpu" or "cuda"
    dtype    torch.float32 or torch.bfloat16
    context  longest row that it reads, in tokens
    memory   share of a GPU's memory that it may take
    program  what is run, by its path
    """

    python: str
    folder: Path
    device: str
    dtype: torch.dtype
    context: int
    memory: float
    start_seconds: float
    answer_seconds: float
    program: Path = PROGRAM


class Held(BaseModel):
    """What the engine's workers hold: the weights' version, and digests by their own names."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str
    weights: tuple[dict[str, str], ...]


_SAMPLES = TypeAdapter(list[Sample])
_NUMBERS = TypeAdapter(list[tuple[float, ...]])


class ServedEngine:
    """Samples and scores in a process of its own. Fills `ports.WeightedEngine`.

    held  what the process holds, as it was read back; None until the first answer

    Any call raises EngineFailed where the process ends, is late or answers amiss; the engine is
    then of no more use, and nothing of it is left but its log.
    """

    def __init__(self, serving: Serving, *, eos_ids: frozenset[int], version: str) -> None:
        self.serving = serving
        self.held: Held | None = None
        self._ends, self._version = sorted(eos_ids), version
        self._plain: set[str] = set()  # what the workers hold under the names and bytes of ours
        self._given: dict[str, set[str]] = {}  # digests of what they were given last, where needed
        self._scratch = Path(tempfile.mkdtemp(prefix="coclimb-engine-", dir=_roomy(serving.folder)))
        # -I: neither this project's modules nor its environment's reach the other environment
        command = [serving.python or sys.executable, "-I", str(serving.program)]
        handle, log = tempfile.mkstemp(prefix="coclimb-engine-", suffix=".log")
        os.close(handle)
        self._until = time.monotonic() + serving.start_seconds
        try:
            self._program = Program("the served engine", command, Path(log))
            self._starting = self._program.tell(self._start(), self._until)
        except EngineFailed:
            shutil.rmtree(self._scratch)
            if not os.path.getsize(log):
                os.unlink(log)
            raise

    @property
    def version(self) -> str:
        """Id of the weights that answer now."""
        return self._version

    @property
    def process(self) -> int:
        """Id of its process, and of the group that holds all that this started."""
        return self._program.process.pid

    @property
    def log(self) -> Path:
        """What the process wrote beside its answers; it stays where the engine failed."""
        return self._program.log

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        """Hand weights over; what the process holds then is compared with them.

        Raises ValueError for adapters that are not merged.
        """
        if loose := [name for name in state if ".lora_" in name or ".base_layer." in name]:
            raise ValueError(f"weight {loose[0]} is of an adapter; merge it (policy.merged_state)")
        before = self._begun()
        given = {n: w.detach().to("cpu", self.serving.dtype).contiguous() for n, w in state.items()}
        folder = self._scratch / "weights"
        folder.mkdir()
        try:
            save_tensors(given, folder / "model.safetensors")
            told = self._ask({"do": "load", "folder": str(folder), "version": version})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._version = version
        self.held = self._holds(told)
        self._compare(given, self.held, changed=self.held.weights != before.weights)

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """Completions per request, one per seed, in order; each from its own seed alone.

        Log-probabilities are of the distribution that was drawn from; at temperature 0, at 1.
        """
        self._check_sampling(requests, max_tokens, temperature)
        told = self._ask(
            {
                "do": "sample",
                "prompts": [request.prompt for request in requests],
                "seeds": [request.seeds for request in requests],
                "max_tokens": max_tokens,
                "temperature": temperature,
                "ends": self._ends,
            }
        )
        rows = self._read(_SAMPLES, told, sum(len(request.seeds) for request in requests))
        self._check_numbers([sample.logprobs for sample in rows])
        made = iter(rows)
        return [tuple(next(made) for _ in request.seeds) for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-probabilities at temperature 1 of every target token, in order."""
        rows = {row: place for place, row in enumerate(dict.fromkeys(self._rows(requests)))}
        told = self._ask({"do": "score", "rows": list(rows)}) if rows else {"rows": []}
        found = self._read(_NUMBERS, told, len(rows))
        self._check_numbers(found)
        return [
            tuple(
                tuple(found[rows[before + target]][len(before) - 1 :] for target in targets)
                for before, targets in _parts(request)
            )
            for request in requests
        ]

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """Not served: vLLM would hand every distribution over, a number per token of the base."""
        raise NotServed(
            "a served engine tells log-probabilities of tokens, not whole distributions; take "
            "certainty and entropy from the local engine (engine.sampler=local, or "
            "verifier.certainty=offline)"
        )

    def close(self) -> None:
        """End the process and whatever it started, within seconds."""
        self._program.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _start(self) -> dict[str, object]:
        serving = self.serving
        return {
            "do": "start",
            "folder": str(serving.folder),
            "device": serving.device,
            "dtype": str(serving.dtype).removeprefix("torch."),
            "context": serving.context,
            "memory": serving.memory,
            "seed": 0,
            "seconds": serving.start_seconds,
            "version": self._version,
            "scratch": str(self._scratch),
        }

    def _begun(self) -> Held:
        """What it holds, once it has started."""
        if self.held is None:
            told = self._program.answer(self._starting, self._until, "engine.start_seconds")
            self.held = self._holds(told)
        return self.held

    def _ask(self, message: Mapping[str, object]) -> dict[str, object]:
        self._begun()
        until = time.monotonic() + self.serving.answer_seconds
        number = self._program.tell(message, until)
        return self._program.answer(number, until, "engine.answer_seconds")

    def _holds(self, told: Mapping[str, object]) -> Held:
        """What an answer says is held, under the version that was asked for."""
        try:
            held = Held.model_validate(told)
        except ValidationError as error:
            raise self._program.failure("did not say which weights it holds") from error
        if held.version != self._version:
            raise self._program.failure(
                f"holds the weights {held.version!r}, expected {self._version!r}"
            )
        return held

    def _compare(self, given: Mapping[str, Tensor], held: Held, *, changed: bool) -> None:
        """Refuse an engine that does not hold what it was given, as far as that can be seen.

        What workers hold as it was given once, such as embeddings and norms, must be as it was
        given ever after. What they fuse has other bytes, which must change with what is given;
        what they repack, as on a CPU, has none: there only the former is compared.

        changed  whether they hold anything else than before
        """
        shown = [(name, sha) for one in held.weights for name, sha in one.items()]
        seen = {name: sha for name, sha in shown if name in given and sha != NOTHING}
        whole = all(sha != NOTHING for _, sha in shown)
        asked = list(given if whole else seen)
        with ThreadPoolExecutor(max_workers=4) as pool:
            own = dict(zip(asked, pool.map(_digests, map(given.__getitem__, asked)), strict=True))
        same = {name for name, sha in seen.items() if sha in own[name]}
        moved = [name for name, digests in self._given.items() if own.get(name) != digests]
        lost = sorted(self._plain - same) or sorted(seen.keys() - same) * (not same)
        if lost := lost or moved * (not changed):
            raise self._program.failure(
                f"does not hold the weights {self._version!r} that it was given: {lost[0]} differs"
            )
        self._plain |= same
        self._given = own if whole else {}

    def _read(self, shape: TypeAdapter[list[T]], told: Mapping[str, object], count: int) -> list[T]:
        try:
            rows = shape.validate_python(told.get("rows"))
        except ValidationError as error:
            raise self._program.failure("answered in another form than it was asked") from error
        if len(rows) != count:
            raise self._program.failure(f"answered {len(rows)} rows, expected {count}")
        return rows

    def _check_numbers(self, rows: Sequence[Sequence[float]]) -> None:
        if not all(math.isfinite(number) and number < 1e-3 for row in rows for number in row):
            raise self._program.failure("answered log-probabilities that are none")

    def _check_sampling(
        self, requests: Sequence[SampleRequest], max_tokens: int, temperature: float
    ) -> None:
        low, high = TEMPERATURES
        if temperature != 0.0 and not low <= temperature <= high:
            raise ValueError(
                f"temperature is {temperature}; a served engine takes 0, or {low} to {high:g}"
            )
        for place, request in enumerate(requests):
            length = len(request.prompt)
            if not length:
                raise ValueError(f"request {place}: the prompt is empty; give it a token")
            if length + max_tokens > self.serving.context:
                raise ValueError(
                    f"request {place}: prompt of {length} + max_tokens {max_tokens} tokens, the "
                    f"engine reads {self.serving.context}; shorten the prompt, lower max_tokens, "
                    "or raise engine.context"
                )

    def _rows(self, requests: Sequence[ScoreRequest]) -> Iterator[Tokens]:
        """Every row to be read, whole. Raises ValueError for one that cannot be."""
        for place, request in enumerate(requests):
            for before, targets in _parts(request):
                for target in targets:
                    if not before or not target:
                        raise ValueError(
                            f"request {place}: a target needs at least one token, and one before it"
                        )
                    if len(before) + len(target) > self.serving.context:
                        raise ValueError(
                            f"request {place}: a row of {len(before) + len(target)} tokens, the "
                            f"engine reads {self.serving.context}; shorten it, or raise "
                            "engine.context"
                        )
                    yield before + target


def _parts(request: ScoreRequest) -> Iterator[tuple[Tokens, tuple[Tokens, ...]]]:
    """What precedes targets, and those targets."""
    for context, targets in zip(request.contexts, request.targets, strict=True):
        yield request.prompt + context, targets


def _digests(weight: Tensor) -> set[str]:
    """SHA-256 of a weight's bytes, and of them where rows are filled up to a multiple of 64."""
    sha = hashlib.sha256(weight.reshape(-1).view(torch.uint8).numpy().data)
    plain = sha.hexdigest()
    sha.update(bytes(-len(weight) % 64 * weight[0].nbytes) if weight.dim() else b"")
    return {plain, sha.hexdigest()}


def _roomy(folder: Path) -> Path | None:
    """Memory where the base's weights fit several times over, else the usual temporary folder."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    try:
        free = shutil.disk_usage(MEMORY).free
    except OSError:  # no such place on this system
        return None
    return MEMORY if free > 4 * size else None
