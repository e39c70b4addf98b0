"""The one place where ports meet concrete parts: from a config to a crew that can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from agents.generators import GENERATORS
from agents.prompts import Prompts
from agents.solver import SamplingSolver
from agents.verifiers import METERS, VERIFIERS
from agents.verifiers.panel import Panel
from agents.verifiers.tools import Tools
from flows.data import prepare
from flows.engines import TINY as TINY
from flows.engines import Bases, Engines, place_of, style_of
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
from pipeline.learner import PolicyLearner
from pipeline.policy import (
    check_fragments,
    load_reader,
)
from pipeline.ports import Engine, Generator, Meter, Verifier
from pipeline.proxy import WeightProxy
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
    close      ends the processes that the parts started
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
    outlet: Outlet = field(default_factory=Outlet)
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


def assemble(config: RunConfig) -> Parts:
    """Load the base once per role that needs its own copy, and wire everything to it.

    Raises BadModel for a base that cannot be used, Contradiction for rewards that cannot be as the
    settings have them, and the errors of `flows.data` for a file.
    """
    refuse(config)
    bases = Bases(config.model)
    engines = Engines(bases, config)
    check_fragments(bases.place, bases.tokenizer, config.tags)
    prompts = Prompts(bases.tokenizer, config.tags, bases.style)
    environment, told = _environment(config, prompts, bases.context)
    lines: tuple[Line, ...] = (
        ("solver",) if config.model.generator == "shared" else ("solver", "generator")
    )
    samplers = {line: engines.asked(line) for line in lines}
    learner = PolicyLearner(
        {line: bases.trainable() for line in lines},
        config,
        Splice(prompts.behind_answer_tag, lambda task: prompts.closed_reference(task.reference)),
        {line: engine.load for line, engine in samplers.items()},
    )
    judge_engine = engines.asked("proxy")
    proxy = WeightProxy(
        judge_engine, lambda: learner.state("solver"), lambda: learner.versions()["solver"]
    )
    solver = SamplingSolver(samplers["solver"], prompts, config.solver, bases.context)
    verifier = VERIFIERS[config.verifier.kind](
        judge_engine, prompts, config.verifier, bases.context
    )
    tools = _tools(engines, prompts, samplers["solver"], judge_engine)
    panel = Panel(verifier, [METERS[name](tools) for name in meters.reading(config)])
    probed = GENERATORS["evolve" if config.generator.kind == "none" else config.generator.kind](
        samplers.get("generator", samplers["solver"]), prompts, config.generator, bases.context
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
        close=engines.close,
    )


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
        context=engines.bases.context,
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
    tokenizer, context = load_reader(place, config.tags)
    return Prompts(tokenizer, config.tags, style_of(place, tokenizer)), context
