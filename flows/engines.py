"""The engines that a configuration asks for.

A run asks its engines whole, shard by shard, or through its queue (`Engines.asked`); who answers,
here or in a worker, has them bare (`Engines.bare`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Literal

from flows.bases import Bases
from pipeline.config import RunConfig
from pipeline.engine.parity import Against, Paired, Probe
from pipeline.engine.queued import Outlet, Queued
from pipeline.engine.served import ServedEngine, Serving
from pipeline.engine.sharded import Sharded
from pipeline.models.folder import find_folder
from pipeline.models.policy import DTYPES, encode
from pipeline.parity import Limits, Parity
from pipeline.ports import WeightedEngine
from pipeline.types import Line

Dtype = Literal["float32", "bfloat16"]


def alone(config: RunConfig) -> RunConfig:
    """The configuration of a run for who looks at it without being it: nothing is queued."""
    return config.model_copy(update={"work": config.work.model_copy(update={"queue": False})})


def context_of(config: RunConfig, longest: int) -> int:
    """The longest row that every engine of a run reads, in tokens; `longest` is the base's own."""
    engine = config.engine
    served = "vllm" in (engine.sampler, engine.scorer)
    return min(longest, engine.context) if served and engine.context else longest


class Engines:
    """The engines of a run, each under weights of its own; closed together.

    outlet  where calls go that a run queues; opened once the run is alive
    parities  what the engines came to against the local one, in order, until someone clears it
    """

    def __init__(self, bases: Bases, config: RunConfig) -> None:
        self.bases, self.config = bases, config
        self.outlet = Outlet()
        self.parities: list[Parity] = []
        self.context = context_of(config, bases.context)
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
        dtype, name = self.config.model.engine_dtype, self.config.engine.sampler
        version = f"{line}@0"
        if name == "local":
            return self._keep(self.bases.engine(dtype, version))
        if name == "vllm":
            return self._paired(self._served(dtype, version), name, line, dtype)
        return self._paired(self._keep(self.bases.batching(dtype, version)), name, line, dtype)

    def scorer(self) -> WeightedEngine:
        """What scores under the proxy's weights."""
        dtype, name = self.config.model.proxy_dtype, self.config.engine.scorer
        if name == "local":
            return self._keep(self.bases.engine(dtype, "proxy@0"))
        return self._paired(self._served(dtype, "proxy@0"), name, "proxy", dtype)

    def start(self) -> WeightedEngine:
        """What scores under the weights that the run began with, in the sampler's format, so that
        the policy begins at no distance."""
        return self._keep(self.bases.engine(self.config.model.engine_dtype, "solver@0"))

    def against(self, name: str, line: Line, dtype: Dtype) -> Against:
        """What an engine of that name is held against."""
        bases = self.bases
        return Against(
            name=name,
            line=line,
            local=lambda state: bases.reading(state, dtype, f"{line}@reference"),
            probe=Probe.of(partial(encode, bases.tokenizer), self.context),
            limits=Limits.of(self.config.engine, dtype),
            tell=self.parities.append,
        )

    def _paired(
        self, engine: WeightedEngine, name: str, line: Line, dtype: Dtype
    ) -> WeightedEngine:
        """The engine, held against the local one unless the configuration asks for none of it."""
        if not self.config.engine.parity:
            return engine
        return Paired(engine, self.bases.state(), self.against(name, line, dtype))

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
        """End every process that an engine started, and the way to workers."""
        self.outlet.close()
        self._open.close()

    def _keep(self, engine: WeightedEngine) -> WeightedEngine:
        self._open.callback(engine.close)
        return engine


def _dtype(config: RunConfig, line: str) -> str:
    return config.model.proxy_dtype if line == "proxy" else config.model.engine_dtype
