"""The one place where ports meet concrete parts: from a config to a crew that can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from agents.generators import GENERATORS
from agents.prompts import Prompts
from agents.solver import SamplingSolver
from agents.verifiers import METERS, VERIFIERS
from agents.verifiers.panel import Panel
from agents.verifiers.tools import Tools
from flows.bases import TINY as TINY
from flows.bases import Bases, place_of, style_of
from flows.engines import Engines, context_of
from flows.home import find_home
from flows.sources.rows import prepare
from pipeline import meters
from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.crew import Crew
from pipeline.curriculum import Seen
from pipeline.engine.queued import Outlet
from pipeline.environments.rule_world import RuleWorld
from pipeline.environments.table import Table
from pipeline.evaluation.exam import Exam, PoolGroup
from pipeline.evaluation.verifier import named_part, pool_figure
from pipeline.learning.launch.group import Launch
from pipeline.learning.launch.learner import LaunchedLearner
from pipeline.learning.launch.messages import Device, Job
from pipeline.learning.learner import PolicyLearner
from pipeline.learning.order import lines_of
from pipeline.learning.ordered import Ordered
from pipeline.models.policy import (
    check_fragments,
    load_reader,
)
from pipeline.models.proxy import WeightProxy
from pipeline.parity import Parity
from pipeline.ports import Engine, Generator, Meter, Verifier, WeightedEngine
from pipeline.rewards.checks import refuse
from pipeline.types import Line, PoolFigure, Remembered, Task


@dataclass
class Parts:
    """Everything a run works with.

    verifier   measures the reference's likelihood alone, as probes need it; the crew's has the
               meters beside it that the run asks for
    meter      makes the meter of a name
    generator  proposes for probes even where the run trains without one
    pool       filled once the frozen pool is made or read; the crew's syncs are measured on it
    told       what was done to a source's rows, a line each
    outlet     where queued calls of engines go; shut until the run is alive
    parities   comparisons of engines with the local one that no row tells of yet
    close      ends the processes that the parts started
    """

    config: RunConfig
    crew: Crew
    learner: Ordered
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
    outlet: Outlet = field(default_factory=Outlet)
    parities: list[Parity] = field(default_factory=list)
    close: Callable[[], None] = lambda: None

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


def assemble(config: RunConfig, logs: Path | None = None) -> Parts:
    """Load the base once per role that needs its own copy, and wire everything to it.

    logs  folder for what other processes put out; None for that of the home one would be in
    Raises BadModel for a base that cannot be used, Contradiction for rewards that cannot be as the
    settings have them, EngineMismatch for a scorer that does not answer as the base does, and the
    errors of `flows.sources.rows` for a file. No process is left then.
    """
    refuse(config)
    engines = Engines(Bases(config.model), config)
    with ExitStack() as started:
        started.callback(engines.close)
        parts = _wired(engines, started, logs)
        parts.close = started.pop_all().close
    return parts


def _wired(engines: Engines, started: ExitStack, logs: Path | None) -> Parts:
    """Everything that asks the engines. started: closes whatever is started here."""
    bases, config = engines.bases, engines.config
    check_fragments(bases.place, bases.tokenizer, config.tags)
    prompts = Prompts(bases.tokenizer, config.tags, bases.style)
    environment, told = _environment(config, prompts, engines.context)
    samplers = {line: engines.asked(line) for line in lines_of(config)}
    learner = _learner(bases, config, prompts, samplers, logs)
    started.callback(learner.close)
    judge_engine = engines.asked("proxy")
    proxy = WeightProxy(
        judge_engine, lambda: learner.state("solver"), lambda: learner.versions()["solver"]
    )
    solver = SamplingSolver(samplers["solver"], prompts, config.solver, engines.context)
    verifier = VERIFIERS[config.verifier.kind](
        judge_engine, prompts, config.verifier, engines.context
    )
    tools = _tools(engines, prompts, samplers["solver"], judge_engine)
    panel = Panel(verifier, [METERS[name](tools) for name in meters.reading(config)])
    probed = GENERATORS["evolve" if config.generator.kind == "none" else config.generator.kind](
        samplers.get("generator", samplers["solver"]), prompts, config.generator, engines.context
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
        outlet=engines.outlet,
        parities=engines.parities,
    )


def _learner(
    bases: Bases,
    config: RunConfig,
    prompts: Prompts,
    samplers: Mapping[Line, WeightedEngine],
    logs: Path | None,
) -> Ordered:
    """What trains: in this process, or in several of its own."""
    splice = Splice(
        prompts.behind_answer_tag, lambda task: prompts.closed_reference(task.reference)
    )
    publish_to = {line: engine.load for line, engine in samplers.items()}
    if config.learner.processes == 1:
        return PolicyLearner(
            {line: bases.trainable() for line in samplers}, config, splice, publish_to
        )
    folder = find_home(None, None).logs if logs is None else logs
    threads = max(1, torch.get_num_threads() // config.learner.processes)
    device: Device = "cpu" if bases.device == "cpu" else "cuda"
    launch = Launch(Job(config, bases.place, device), folder / "learner.log", threads)
    return LaunchedLearner(launch, splice, publish_to)


def _tools(engines: Engines, prompts: Prompts, policy: Engine, proxy: Engine) -> Tools:
    """What meters are made from. The frozen weights are copied once a meter asks, and for none
    never."""
    config = engines.config
    return Tools(
        policy=policy,
        proxy=proxy,
        frozen=cache(lambda: engines.asked("start")),
        prompts=prompts,
        config=config.verifier,
        context=engines.context,
        seed=config.seed,
        max_tokens=config.solver.max_tokens,
        temperature=config.solver.temperature,
    )


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
    place = place_of(config.model)
    tokenizer, longest = load_reader(place, config.tags)
    prompts = Prompts(tokenizer, config.tags, style_of(place, tokenizer))
    return prompts, context_of(config, longest)
