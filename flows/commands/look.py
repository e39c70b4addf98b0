"""The commands that look at what the store holds, and at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.edge import Drop, Edge, Form, Json, Limit, Origin, Role, Round, Run, Set
from flows.errors import Refusal


def runs(context: typer.Context, json: Json = False) -> None:
    """List every run and how it stands."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import listing

        listing.list_runs(edge.home, json=json)


def rounds(
    context: typer.Context,
    run: Run = "last",
    steps: Annotated[
        bool, typer.Option("--steps", help="Step by step: each update, and each sync with why.")
    ] = False,
    engines: Annotated[
        bool, typer.Option("--engines", help="Each comparison of an engine with the local one.")
    ] = False,
    json: Json = False,
) -> None:
    """The three axes of a run, round by round; or its steps, or how its engines compared."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import listing

        if steps and engines:
            raise Refusal("--steps and --engines are two listings", remedy="ask for one of them")
        show = listing.list_steps if steps else listing.list_rounds
        if engines:
            show = listing.list_engines
        show(edge.home, run, json=json)


def tasks(
    context: typer.Context,
    run: Run = "last",
    round: Round = None,
    origin: Origin = None,
    drop: Drop = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List tasks and proposals, and what became of each."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import listing
        from store.questions import Filter

        only = Filter(round=round, origin=origin, drop=drop, limit=limit)
        listing.list_tasks(edge.home, run, only, json=json)


def rollouts(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="RUN|TASK", help="A run, or a task's id within one.")
    ] = "last",
    run: Annotated[str, typer.Option(help="The run that a task is in.")] = "last",
    round: Round = None,
    role: Role = None,
    form: Form = None,
    readings: Annotated[
        bool, typer.Option("--readings", help="What meters read of them, a row each.")
    ] = False,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List attempts and proposals with evidence, reward and advantage."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import listing
        from store.questions import Filter

        only = Filter(round=round, role=role, form=form, limit=limit)
        listing.list_rollouts(edge.home, (subject, run), only, readings=readings, json=json)


def lineage(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="A task, rollout, version or checkpoint@ROUND.")],
    run: Annotated[str, typer.Option(help="The run it is in.")] = "last",
    json: Json = False,
) -> None:
    """Where something came from: a tree back to its beginnings."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import listing

        listing.show_lineage(edge.home, id, run, json=json)


def probe(
    context: typer.Context,
    run: Run = "last",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the climb: .png, .svg or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Every figure of a run's probes, with intervals; or a picture of the climb."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import listing

        listing.show_probe(edge.home, run, plot, json=json)


def workers(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="One run; every run without.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Workers heard ever, not in the last hour alone.")
    ] = False,
    json: Json = False,
) -> None:
    """Who works items of runs out, when each was last heard, and what became of the items."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import work_listing

        work_listing.list_workers(edge.home, run, every=every, json=json)


def verify(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="One run; every run without.")] = None,
    json: Json = False,
) -> None:
    """Check that nothing was lost, doubled or changed; exits 1 on violations."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import listing

        listing.verify(edge.home, run, json=json)


def doctor(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="With --engine: a TOML file; defaults without.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Start vllm, batching or local, and compare it."),
    ] = None,
    change: Set = None,
    json: Json = False,
) -> None:
    """What this machine has, what it lacks, and how to get it; or whether an engine works here."""
    edge: Edge = context.obj
    with edge.answering():
        if engine is None:
            if config or change:
                raise Refusal("settings say nothing of the machine", remedy="add --engine NAME")
            from flows import doctor as examining

            examining.report(edge.home, json=json)
            return
        from flows.settings import load_config

        settings = load_config(config, [*(change or []), f"engine.sampler={engine}"])
        from flows import doctor_engine

        doctor_engine.report(settings, json=json)


def init(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("coclimb.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a TOML file of every setting, its default and its meaning."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.settings import template

        if file.exists() and not force:
            raise Refusal(f"{file} is there already", remedy="--force replaces it")
        file.write_text(template())
        typer.echo(f"wrote {file}; `coclimb run {file}` begins with it")
