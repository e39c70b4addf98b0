"""The one place where ports meet concrete parts: from a config to a crew that can run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agents.generators import GENERATORS
from agents.prompts import Prompts, Style
from agents.solver import SamplingSolver
from agents.verifiers import METERS, VERIFIERS
from agents.verifiers.panel import Panel
from agents.verifiers.tools import Tools
from flows.data import prepare
from pipeline import meters
from pipeline.batch import Splice
from pipeline.config import ModelConfig, RunConfig
from pipeline.crew import Crew
from pipeline.curriculum import Seen
from pipeline.engine.local import LocalEngine
from pipeline.environments.rule_world import RuleWorld
from pipeline.environments.table import Table
from pipeline.evaluation.exam import Exam, PoolGroup
from pipeline.evaluation.verifier import named_part, pool_figure
from pipeline.learner import PolicyLearner
from pipeline.policy import (
    check_fragments,
    end_ids,
    load_policy,
    load_reader,
    longest_row,
    pick_device,
    replica,
    wrap_lora,
)
from pipeline.ports import Generator, Meter, Verifier
from pipeline.proxy import WeightProxy
from pipeline.rewards.checks import refuse
from pipeline.trainee import DTYPES
from pipeline.types import Line, PoolFigure, Remembered, Task

TINY = Path(__file__).resolve().parent.parent / "pipeline" / "worlds" / "tiny_base"


@dataclass
class Parts:
    """Everything a run works with.

    verifier   measures the reference's likelihood alone, as probes need it; the crew's has the
               meters beside it that the run asks for
    meter      makes the meter of a name
    generator  proposes for probes even where the run trains without one
    pool       filled once the frozen pool is made or read; the crew's syncs are measured on it
    told       what was done to a source's rows, a line each
    """

    config: RunConfig
    crew: Crew
    learner: PolicyLearner
    proxy: WeightProxy
    generator: Generator
    solver: SamplingSolver
    verifier: Verifier
    prompts: Prompts
    exam: Exam
    seeds: list[Task]
    probe_questions: list[str]
    meter: Callable[[str], Meter]
    pool: list[PoolGroup] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def seen(self, memory: Sequence[Remembered]) -> Seen:
        """Every text that a proposal must not copy."""
        seen = Seen(self.config.generator.copy_threshold)
        for task in self.seeds:
            seen.add("seed", task.question)
        for question in self.probe_questions:
            seen.add("probe", question)
        for item in memory:
            seen.add("task", item.task.question)
        return seen


def assemble(config: RunConfig) -> Parts:
    """Load the base once per role that needs its own copy, and wire everything to it.

    Raises BadModel for a base that cannot be used, Contradiction for rewards that cannot be as the
    settings have them, and the errors of `flows.data` for a file.
    """
    refuse(config)
    bases = _Bases(config.model)
    check_fragments(bases.place, bases.tokenizer, config.tags)
    prompts = Prompts(bases.tokenizer, config.tags, bases.style)
    environment, told = _environment(config, prompts, bases.context)
    lines: tuple[Line, ...] = (
        ("solver",) if config.model.generator == "shared" else ("solver", "generator")
    )
    engines = {line: bases.engine(config.model.engine_dtype, f"{line}@0") for line in lines}
    learner = PolicyLearner(
        {line: bases.trainable() for line in lines},
        config,
        Splice(prompts.behind_answer_tag, lambda task: prompts.closed_reference(task.reference)),
        {line: engine.load for line, engine in engines.items()},
    )
    judge_engine = bases.engine(config.model.proxy_dtype, "proxy@0")
    proxy = WeightProxy(
        judge_engine, lambda: learner.state("solver"), lambda: learner.versions()["solver"]
    )
    solver = SamplingSolver(engines["solver"], prompts, config.solver, bases.context)
    verifier = VERIFIERS[config.verifier.kind](
        judge_engine, prompts, config.verifier, bases.context
    )
    tools = _tools(bases, config, prompts, engines["solver"], judge_engine)
    panel = Panel(verifier, [METERS[name](tools) for name in meters.reading(config)])
    probed = GENERATORS["evolve" if config.generator.kind == "none" else config.generator.kind](
        engines.get("generator", engines["solver"]), prompts, config.generator, bases.context
    )
    generator = None if config.generator.kind == "none" else probed
    pool: list[PoolGroup] = []
    exam = environment.exam()

    def figure() -> PoolFigure | None:
        return pool_figure(named_part(pool, exam.truth.named), verifier)

    return Parts(
        config=config,
        crew=Crew(config, generator, solver, panel, learner, proxy, figure),
        learner=learner,
        proxy=proxy,
        generator=probed,
        solver=solver,
        verifier=verifier,
        prompts=prompts,
        exam=exam,
        seeds=environment.seed_tasks(),
        probe_questions=environment.probe_questions(),
        meter=lambda name: METERS[name](tools),
        pool=pool,
        told=told,
    )


def _tools(
    bases: _Bases, config: RunConfig, prompts: Prompts, policy: LocalEngine, proxy: LocalEngine
) -> Tools:
    """What meters are made from. The frozen weights are read from their folder once a meter asks,
    and never kept for none; in the sampler's format, so that the policy begins at no distance.
    """
    return Tools(
        policy=policy,
        proxy=proxy,
        frozen=cache(lambda: _Bases(config.model).engine(config.model.engine_dtype, "solver@0")),
        prompts=prompts,
        config=config.verifier,
        context=bases.context,
        seed=config.seed,
        max_tokens=config.solver.max_tokens,
        temperature=config.solver.temperature,
    )


class _Bases:
    """Copies of one base model, its tokenizer, its prompt style and how much it can read."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.place = _place(config)
        self.device = pick_device(config.device)
        self._first, self.tokenizer = load_policy(
            self.place, dtype=torch.float32, device=self.device
        )
        self.style = _style(self.place, self.tokenizer)
        self.context = longest_row(self._first)

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
            eos_ids=end_ids(model, self.tokenizer),
            pad_id=pad if isinstance(pad, int) else 0,
            version=version,
            words=len(self.tokenizer),
        )


def _style(place: str, tokenizer: PreTrainedTokenizerBase) -> Style:
    """Plain where the base's own file says so, chat with a chat template, else instructed."""
    made = Path(place) / "coclimb.json"
    if made.is_file() and json.loads(made.read_text()).get("style") == "plain":
        return "plain"
    return "chat" if tokenizer.chat_template else "instructed"


def _environment(
    config: RunConfig, prompts: Prompts, context: int
) -> tuple[RuleWorld | Table, list[str]]:
    """Where tasks come from, and what was done to a source's rows."""
    if config.data.source == "world":
        return RuleWorld(config), []
    source = prepare(config, prompts, context)
    return Table(source.train, config, source.held), source.told()


def reader(config: RunConfig) -> tuple[Prompts, int]:
    """The prompts of a run and how many tokens its base reads, without its weights.

    Raises BadModel for a base that cannot be used.
    """
    place = _place(config.model)
    tokenizer, context = load_reader(place, config.tags)
    return Prompts(tokenizer, config.tags, _style(place, tokenizer)), context


def _place(config: ModelConfig) -> str:
    return str(TINY) if config.base == "tiny" else config.base
