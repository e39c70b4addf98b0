"""The commands that climb: run, resume, fork, train. Each ends in a summary or one clear reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from flows.assemble import assemble
from flows.depot import shared_of
from flows.display import Lines, Panel
from flows.doctor_engine import refuse_missing
from flows.environment import snapshot
from flows.errors import Refusal, aside
from flows.home import Home, make_home
from flows.live import Assemble, Place, come_alive
from flows.looks.figures import read_rounds
from flows.looks.report import axes_table, console, further
from flows.offline import Lesson, changes_for, check_source
from flows.owning import Interrupted, Owning, stoppable
from flows.restore import restore, tidy
from flows.server import Server, prefect_server
from flows.settings import change_config, difference, load_config
from flows.stages import begin, run_stages
from pipeline.config import RunConfig, recorded
from pipeline.rewards.checks import refuse
from store import ledger, points, questions
from store.database import Store
from store.waiting import Patience


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asked for, beside the configuration.

    plain  without Prefect
    older  go past checkpoints that do not verify
    """

    name: str | None = None
    rounds: int | None = None
    plain: bool = False
    older: bool = False


def start(home: Home, file: Path | None, changes: list[str], asked: Asked) -> None:
    """Begin a run, or go on with the unfinished one of the same name and configuration."""
    config = load_config(file, [*changes, *_rounds(asked)])
    if config.offline.objective != "none":
        raise Refusal(
            "a run that learns from the store begins as a fork of the run it learns from",
            remedy=f"coclimb train --from RUN --objective {config.offline.objective}",
        )
    with _store(home) as store:
        there = run_named(store, asked.name)
        if there is not None:
            _same_config(store, there, config)
            _climb(Place(store, home, there), asked)
            return
        with _screen() as progress, prefect(home, asked) as server:
            progress.stage(0, "load")
            shared_of(config)  # what it needs is there before the run has a row
            refuse_missing(config)
            parts = assemble(config, home.logs)
            run = ledger.create_run(store, new_run(config, asked.name, None))
            _own_and_climb(Place(store, home, run), asked, progress, lambda _: parts, server)
        _summarise(store, run)


def resume(home: Home, argument: str, asked: Asked) -> None:
    """Go on with a run where it stopped; with more rounds than before where they are asked for."""
    with _store(home) as store:
        run = questions.resolve(store, argument)
        row = _row(store, run)
        wanted = asked.rounds if asked.rounds is not None else _whole(row["rounds_asked"])
        if wanted < _whole(row["rounds_asked"]):
            raise Refusal(
                f"run {run} was asked for {row['rounds_asked']} rounds already, not {wanted}",
                remedy=f"`coclimb fork {run} --round {wanted}` goes another way from there",
            )
        if row["status"] == "done" and wanted <= _whole(row["rounds_done"]):
            _summarise(store, run)
            console().print(
                f"run {run} is done: {row['rounds_done']} of {row['rounds_asked']} rounds; "
                f"`coclimb resume {run} --rounds {wanted + 2}` would add two"
            )
            return
        _climb(Place(store, home, run), asked)


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a fork leaves its parent, and what it changes."""

    argument: str
    round: int
    changes: list[str]


def fork(home: Home, branch: Branch, asked: Asked) -> None:
    """A new run from a committed round of another, under a changed configuration."""
    with _store(home) as store:
        _fork(store, home, branch, asked)


def train(home: Home, lesson: Lesson, asked: Asked) -> None:
    """A new run that learns from what another stored, without sampling."""
    with _store(home) as store:
        source = questions.resolve(store, lesson.argument)
        changes = changes_for(store, source, lesson)
        _fork(store, home, Branch(source, lesson.round, changes), asked)


def _fork(store: Store, home: Home, branch: Branch, asked: Asked) -> None:
    parent = questions.resolve(store, branch.argument)
    facts = questions.run_facts(store, parent)
    before = recorded(str(facts["config"]))
    config = change_config(before, [*branch.changes, *_rounds(asked)])
    if config.rounds <= branch.round:
        raise Refusal(
            f"a fork after round {branch.round} of {config.rounds} rounds has none to climb",
            remedy="fork an earlier round, or ask for more where it is kept: --rounds N",
        )
    kept = sorted(point.round for point in points.checkpoints(store, parent))
    if branch.round not in kept and branch.round > 0:
        listed = ", ".join(map(str, kept)) or "none"
        raise Refusal(
            f"run {parent} has no checkpoint of round {branch.round}; kept are {listed}",
            remedy="fork one of those; checkpoint.keep says how many stay",
        )
    refuse(config)
    shared_of(config)
    if config.offline.objective != "none":
        check_source(store, parent, config)
    new = new_run(config, asked.name, (parent, branch.round))
    run = ledger.create_run(store, new)
    _climb(Place(store, home, run), asked)


def _climb(place: Place, asked: Asked) -> None:
    with _screen() as progress, prefect(place.home, asked) as server:
        progress.stage(0, "load")
        assembled = partial(assemble, logs=place.home.logs)
        _own_and_climb(place, asked, progress, assembled, server)
    _summarise(place.store, place.run)


def _own_and_climb(
    place: Place,
    asked: Asked,
    progress: Lines | Panel,
    assembled: Assemble,
    server: Server | None,
) -> None:
    """Own the run, bring it to where it stopped, and take every stage that is left."""
    place.store.patience = replace(place.store.patience, say=progress.say)
    try:
        with stoppable(), Owning(place.store, place.run) as lease:
            if asked.rounds is not None:
                ledger.ask_rounds(place.store, lease, asked.rounds)
            live = come_alive(place, lease, progress, assembled)
            with tidy(live):
                begin(live)
                restore(live, older=asked.older)
                if server is None:
                    run_stages(live)
                    return
                server.wait()
                from flows.evolve import run_flow  # noqa: PLC0415 - Prefect reads its environment

                run_flow(live)
    except Interrupted as error:
        said = f"{error}; what was committed stays. `coclimb resume {place.run}` goes on"
        raise Interrupted(said) from None


def prefect(home: Home, asked: Asked) -> AbstractContextManager[Server | None]:
    """Prefect's server for the length of the block, unless the run is to go without."""
    return nullcontext() if asked.plain else prefect_server(home.prefect)


@contextmanager
def _store(home: Home) -> Iterator[Store]:
    make_home(home)
    store = Store.open(home.store, Patience(say=aside))
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _screen() -> Iterator[Lines | Panel]:
    """A panel on a terminal, plain lines anywhere else; no other bar draws over it."""
    disable_progress_bar()
    shown = console()
    with Panel(shown) if shown.is_terminal else Lines(shown) as progress:
        yield progress


def new_run(config: RunConfig, name: str | None, parent: tuple[str, int] | None) -> ledger.NewRun:
    return ledger.NewRun(
        config=config.model_dump_json(),
        config_digest=config.digest(),
        environment=snapshot(torch.get_num_threads()),
        seed=config.seed,
        rounds_asked=config.rounds,
        name=name,
        parent=parent,
    )


def run_named(store: Store, name: str | None) -> str | None:
    """The run of that name, if there is one."""
    found = [row["id"] for row in questions.runs(store) if name and row["name"] == name]
    return str(found[-1]) if found else None


def _same_config(store: Store, run: str, config: RunConfig) -> None:
    """Refuse to go on with a run under a configuration that is not its own."""
    before = recorded(str(questions.run_facts(store, run)["config"]))
    changed = difference(before.model_dump(), config.model_dump())
    if changed:
        raise Refusal(
            f"a run of that name ({run}) is there, with other settings",
            [f"{key} differs" for key in changed],
            "give another --name, or fork it: coclimb fork RUN --round N --set key=value",
        )


def _rounds(asked: Asked) -> list[str]:
    return [] if asked.rounds is None else [f"rounds={asked.rounds}"]


def _row(store: Store, run: str) -> questions.Answer:
    return next(row for row in questions.runs(store) if row["id"] == run)


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _summarise(store: Store, run: str) -> None:
    """The axes by round, and where to look next."""
    shown = console()
    shown.print(axes_table(read_rounds(store, run), title=f"run {run}: 95 % intervals by task"))
    shown.print(further(run), soft_wrap=True)
    sys.stdout.flush()
