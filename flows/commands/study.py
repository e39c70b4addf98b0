"""The commands that ask what else could be: of data, of methods, of versions, of verifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.edge import Drop, Edge, Form, Json, Origin, Picture, Role, Round, Run, Set


def import_(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="A file, a folder of `datasets`, a database's address or a Hub name."),
    ],
    change: Set = None,
    json: Json = False,
) -> None:
    """Read a source as a run would, and say what would be changed, merged or left out."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import importing

        importing.report(source, change or [], json=json)


def export(
    context: typer.Context,
    run: Run,
    to: Annotated[
        Path, typer.Option(metavar="PATH", help="A .jsonl or .parquet file, or a new folder.")
    ],
    what: Annotated[
        str,
        typer.Option(help="tasks, rollouts, readings, updates, syncs, rounds, probes or engines."),
    ] = "rollouts",
    truth: Annotated[
        bool, typer.Option("--truth", help="With the columns that only probes may read.")
    ] = False,
    round: Round = None,
    origin: Origin = None,
    drop: Drop = None,
    role: Role = None,
    form: Form = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most rows, the newest.")] = None,
) -> None:
    """Write a listing of a run, whole, as JSONL, Parquet or a Dataset folder, with a card."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import exporting
        from store.questions import Filter

        only = Filter(round=round, origin=origin, drop=drop, form=form, role=role, limit=limit)
        exporting.export(edge.home, exporting.Wanted(run, what, only, truth), to)


def methods(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A method; every one without.")] = None,
    json: Json = False,
) -> None:
    """The methods there are to choose from, and a page on each: formula, inputs, range, source."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import methods as pages

        pages.show_methods(name, json=json)


def replay(
    context: typer.Context,
    run: Run = "last",
    reward: Annotated[
        str | None, typer.Option(help="The reward to judge with; `coclimb methods` lists them.")
    ] = None,
    advantage: Annotated[str | None, typer.Option(help="The advantage to compare with.")] = None,
    change: Set = None,
    json: Json = False,
) -> None:
    """What another reward or advantage would have said of a run's stored rollouts."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import replay as replaying

        named = [f"reward.name={reward}"] if reward else []
        named += [f"objective.advantage={advantage}"] if advantage else []
        replaying.replay(edge.home, run, [*named, *(change or [])], json=json)


def attack(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(help="A run's newest checkpoint; the base that ships without.")
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Most held-out tasks to attack.")] = 200,
    json: Json = False,
) -> None:
    """How often each verifier accepts what deserves nothing: one token, an injection, a copy."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import attack as attacking

        attacking.report(edge.home, run, tasks, json=json)


def passk(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="A version: RUN@ROUND, such as last@0.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another, such as last@4.")],
    samples: Annotated[int, typer.Option(min=2, help="Attempts at each task (n).")] = 16,
    tasks: Annotated[
        int, typer.Option(min=0, help="Most held-out tasks of each depth; 0 takes all.")
    ] = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0.01, help="Of both; A's own setting without.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the attempts.")] = 1,
    plot: Picture = None,
    json: Json = False,
) -> None:
    """What two versions solve in k attempts: pass@k, coverage, spread; B against A.

    The result is kept in the home folder, under passk, and read when asked for again.
    """
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import passk as contrasting

        wanted = contrasting.Wanted(samples, tasks, temperature, seed)
        contrasting.passk(edge.home, (a, b), wanted, json=json, plot=plot)


def compare(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more.")],
    plot: Picture = None,
    json: Json = False,
) -> None:
    """Runs side by side: start, end and gain of each axis, and each run against the first."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.looks import compare as comparing

        comparing.compare(edge.home, runs, json=json, plot=plot)
