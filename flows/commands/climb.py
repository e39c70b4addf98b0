"""The commands that climb: run, resume, fork and train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.edge import Edge, Name, Plain, Recipe, Rounds, Run, Set


def run(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="A TOML file; defaults without.")] = None,
    recipe: Recipe = None,
    change: Set = None,
    name: Name = None,
    rounds: Rounds = None,
    plain: Plain = False,
) -> None:
    """Climb: propose, attempt, measure, learn, sync and probe, round after round."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.settings import load_config, settings_of

        changes = [*settings_of(recipe), *(change or [])]
        load_config(config, changes)  # a mistake is told before anything heavy is imported
        from flows import running

        running.start(edge.home, config, changes, running.Asked(name, rounds, plain))


def resume(
    context: typer.Context,
    run: Run = "last",
    rounds: Rounds = None,
    older: Annotated[
        bool, typer.Option("--older", help="Go past a checkpoint that does not verify.")
    ] = False,
    plain: Plain = False,
) -> None:
    """Go on with a run where it stopped."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import running

        asked = running.Asked(rounds=rounds, plain=plain, older=older)
        running.resume(edge.home, run, asked)


def fork(
    context: typer.Context,
    run: Run,
    round: Annotated[int, typer.Option(min=0, help="The round to leave from.")],
    change: Set = None,
    name: Name = None,
    rounds: Rounds = None,
    plain: Plain = False,
) -> None:
    """Begin a new run from a committed round of another, with other settings."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import running

        branch = running.Branch(run, round, change or [])
        running.fork(edge.home, branch, running.Asked(name, rounds, plain))


def train(
    context: typer.Context,
    source: Annotated[
        str, typer.Option("--from", metavar="RUN", help="The run whose attempts are studied.")
    ],
    objective: Annotated[
        str, typer.Option(help="qrpo, sft, best_sft or dpo; settings in offline.*.")
    ],
    round: Annotated[int, typer.Option(min=0, help="The round whose weights begin.")] = 0,
    change: Set = None,
    name: Name = None,
    rounds: Rounds = None,
    plain: Plain = False,
) -> None:
    """Learn from what a run has stored, without sampling: a fork that never attempts a task."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import offline, running

        lesson = offline.Lesson(source, round, objective, change or [])
        running.train(edge.home, lesson, running.Asked(name, rounds, plain))
