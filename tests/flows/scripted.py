"""A whole run without a model that can speak: what is said comes from a script, what is learned
is learned by a real learner with a tiny random model. One round takes a fraction of a second."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from agents.generators.evolve import Evolve
from agents.prompts import Prompts
from agents.solver import SamplingSolver
from agents.verifiers import METERS
from agents.verifiers.panel import Panel
from agents.verifiers.perplexity import Perplexity
from agents.verifiers.tools import Tools
from flows.assemble import Parts
from flows.home import Home, make_home
from flows.live import Assemble, Live, Place, come_alive
from flows.owning import Owning
from flows.progress import Plan, Progress, Quiet
from flows.restore import restore, tidy
from flows.stages import begin, run_stages
from pipeline import meters
from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.crew import Crew
from pipeline.engine.queued import Outlet, Queued
from pipeline.engine.scripted import ScriptedEngine, Tokens
from pipeline.engine.sharded import Sharded
from pipeline.environments.table import Row, Table
from pipeline.evaluation.verifier import pool_figure
from pipeline.files.published import Format
from pipeline.learning.learner import PolicyLearner
from pipeline.learning.ordered import Ordered, Publish
from pipeline.models.policy import merged_state
from pipeline.models.proxy import WeightProxy
from pipeline.parity import Parity
from pipeline.ports import (
    Confidences,
    Sample,
    SampleRequest,
    ScoreRequest,
    Scores,
    WeightedEngine,
)
from pipeline.types import Line
from store import ledger
from store.database import DEFAULT, Store
from store.waiting import Patience
from tests.tiny import tiny_model, tiny_tokenizer

CONTEXT = 512
ROWS = [Row(n, f"How much is {n} and {n + 3}?", str(2 * n + 3)) for n in range(1, 25)]
SMALL = RunConfig.model_validate(
    {
        "rounds": 2,
        "steps": 2,
        "generator": {"parents": 2, "group_size": 3},
        "solver": {"tasks": 4, "group_size": 3},
        "sync": {"rule": "steps", "every": 1},
        "probe": {"solver_tasks": 1, "verifier_tasks": 1, "generator_parents": 2},
    }
)


@dataclass
class Speaker:
    """An engine that says what the prompt and the seed ask for, and weighs by its version."""

    prompts: Prompts
    version: str
    engine: ScriptedEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(self._complete, self._weigh, version=self.version)

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        """Take weights as an engine would; only their version is heard in what is said."""
        self.version = self.engine.version = version

    def close(self) -> None:
        """Nothing to end."""

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        return self.engine.sample(requests, max_tokens=max_tokens, temperature=temperature)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return self.engine.score(requests)

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        return self.engine.confide(requests)

    def _complete(self, prompt: Tokens, seed: int) -> Tokens:
        rng = random.Random(f"{seed}/{self.engine.version}")
        asked = self.prompts.decode(prompt)
        if asked.startswith("Propose"):
            a, b = rng.randrange(100, 999), rng.randrange(100, 999)
            text = f"<task>How much is {a} and {b}?</task><answer>{a + b}</answer>"
        else:
            text = f"<think>count {rng.randrange(9)}</think><answer>{rng.randrange(4)}</answer>"
        if rng.random() < 0.2:
            text = text.replace("</", "<", 1)
        return (*self.prompts.tokenizer.encode(text, add_special_tokens=False), 1)

    def _weigh(self, before: Tokens, target: Tokens) -> tuple[float, ...]:
        rng = random.Random(f"{before}/{self.engine.version}")
        return tuple(-rng.uniform(0.05, 2.0) for _ in target)


@dataclass
class Script:
    """The engines of a configuration, as `flows.engines.Engines` makes them, over the script."""

    config: RunConfig
    outlet: Outlet = field(default_factory=Outlet)
    parities: list[Parity] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompts = Prompts(tiny_tokenizer(), self.config.tags, "plain")

    def bare(self, line: str) -> WeightedEngine:
        return Speaker(self.prompts, f"{line}@0")

    def asked(self, line: str) -> WeightedEngine:
        work = self.config.work
        if not work.queue:
            return Sharded(self.bare(line), work.shard) if work.shard else self.bare(line)
        helper = self.bare(line) if work.helps else None
        queued = Queued(line, self.outlet, helper, Format(torch.float32), work.shard)
        queued.load(merged_state(tiny_model(vocab=264)), f"{line}@0")
        return queued

    def close(self) -> None:
        self.outlet.close()


Learn = Callable[[RunConfig, Splice, Mapping[Line, Publish]], Ordered]


def learn_here(config: RunConfig, splice: Splice, publish_to: Mapping[Line, Publish]) -> Ordered:
    """Train in this process."""
    return PolicyLearner({"solver": tiny_model(vocab=264)}, config, splice, publish_to)


# what samples in the speaker's place, and where it leaves its comparisons
Wrap = Callable[[WeightedEngine, list[Parity]], WeightedEngine]


def scripted_parts(config: RunConfig, wrap: Wrap | None = None, learn: Learn = learn_here) -> Parts:
    """What `flows.assemble.assemble` builds, over the script."""
    script = Script(config)
    prompts, environment = script.prompts, Table(ROWS, config)
    speaker, judge = script.asked("solver"), script.asked("proxy")
    parities: list[Parity] = []
    speaker = wrap(speaker, parities) if wrap else speaker
    splice = Splice(
        prompts.behind_answer_tag, lambda task: prompts.closed_reference(task.reference)
    )
    learner = learn(config, splice, {"solver": speaker.load})
    proxy = WeightProxy(
        judge, lambda: learner.state("solver"), lambda: learner.versions()["solver"]
    )
    solver = SamplingSolver(speaker, prompts, config.solver, CONTEXT)
    verifier = Perplexity(judge, prompts, config.verifier, CONTEXT)
    generator = Evolve(speaker, prompts, config.generator, CONTEXT)
    exam = environment.exam()
    tools = Tools(
        speaker, judge, lambda: judge, prompts, config.verifier, CONTEXT,
        config.seed, config.solver.max_tokens,
    )  # fmt: skip
    panel = Panel(verifier, [METERS[name](tools) for name in meters.reading(config)])
    proposes = generator if config.generator.kind != "none" else None
    parts = Parts(
        config=config,
        crew=Crew(config, proposes, solver, panel, learner, proxy, lambda: figure()),
        learner=learner,
        proxy=proxy,
        generator=generator,
        solver=solver,
        verifier=verifier,
        prompts=prompts,
        exam=exam,
        seeds=environment.seed_tasks(),
        probe_questions=environment.probe_questions(),
        meter=lambda name: METERS[name](tools),
        outlet=script.outlet,
        close=lambda: (script.close(), learner.close()),
        parities=parities,
    )

    def figure():
        return pool_figure(parts.pool, verifier)

    return parts


@dataclass
class Bench:
    """A home with one scripted run in it.

    begun  whether the run is there already
    """

    folder: Path
    config: RunConfig = SMALL
    address: str | None = None  # of the store, else a file in the folder
    patience: Patience = DEFAULT
    assembled: Assemble = scripted_parts
    begun: bool = False

    def __post_init__(self) -> None:
        self.home = Home(self.folder, self.address or str(self.folder / "coclimb.db"))
        make_home(self.home)
        self.store = Store.open(self.home.store, self.patience)
        self.run = "run" if self.begun else self.new("run")

    def new(self, name: str, **more: object) -> str:
        """Another run's row."""
        new = ledger.NewRun(
            self.config.model_dump_json(), self.config.digest(), {}, 1, self.config.rounds,
            id=name, **more,
        )  # type: ignore[arg-type]  # fmt: skip
        return ledger.create_run(self.store, new)

    def go_on(
        self,
        run: str | None = None,
        *,
        work: Callable[[Live], None] = run_stages,
        older: bool = False,
        progress: Progress | None = None,
    ) -> Live:
        """Own the run in a process of its own, as far as the store can tell, and work on it."""
        place = Place(self.store, self.home, run or self.run)
        with Owning(self.store, place.run) as lease:
            live = come_alive(place, lease, progress or Quiet(), self.assembled)
            with tidy(live):
                begin(live)
                restore(live, older=older)
                work(live)
        return live

    def chain(self, run: str | None = None) -> list[str]:
        """Digest of every committed stage, in order."""
        rounds = range(self.config.rounds + 1)
        names = ("propose", "climb", "sync", "checkpoint", "probe")
        found = [
            ledger.stage_done(self.store, run or self.run, number, name)
            for number in rounds
            for name in names
        ]
        return [digest for digest in found if digest]


class Heard(Quiet):
    """Progress that remembers the stages it was told of, and what was said."""

    def __init__(self) -> None:
        self.stages: list[tuple[int, str]] = []
        self.said: list[str] = []
        self.plans: list[Plan] = []
        self.again: list[int] = []

    def begin(self, plan: Plan) -> None:
        self.plans.append(plan)

    def stage(self, round: int, name: str) -> None:
        self.stages.append((round, name))

    def replayed(self, step: int) -> None:
        self.again.append(step)

    def say(self, text: str) -> None:
        self.said.append(text)
