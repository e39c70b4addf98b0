"""The command that puts a run on a Prefect server: deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.edge import Edge, Recipe, Set
from flows.errors import Refusal


def deploy(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="A TOML file; defaults without.")] = None,
    recipe: Recipe = None,
    change: Set = None,
    name: Annotated[str | None, typer.Option(help="The deployment's name, and the run's.")] = None,
    run: Annotated[
        str | None, typer.Option(help="The run's name, where it is not the deployment's.")
    ] = None,
    pool: Annotated[str, typer.Option(help="The work pool.")] = "coclimb",
    type: Annotated[
        str, typer.Option(help="The pool's type: process, or docker or kubernetes with --image.")
    ] = "process",
    image: Annotated[
        str | None, typer.Option(help="Image with coclimb installed, for docker and kubernetes.")
    ] = None,
    gpus: Annotated[
        int, typer.Option(min=0, help="GPUs that help: a queue each, gpu-0 and on.")
    ] = 0,
    machines: Annotated[
        str | None, typer.Option(help="Names, separated by commas, of machines with --gpus each.")
    ] = None,
    queues: Annotated[
        str | None, typer.Option(help="The helping queues by name, separated by commas.")
    ] = None,
    train_queue: Annotated[str, typer.Option(help="The queue of the run itself.")] = "train",
    cron: Annotated[str | None, typer.Option(help="Fire by a cron line, as '0 2 * * *'.")] = None,
    interval: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Fire every so many seconds.")
    ] = None,
    rrule: Annotated[str | None, typer.Option(help="Fire by an iCalendar rule.")] = None,
    timezone: Annotated[
        str | None, typer.Option(help="That the schedule is read in, as Europe/Berlin.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds to climb in all.")] = None,
    rounds_more: Annotated[
        int | None, typer.Option(min=1, help="Most rounds that one firing climbs; else all.")
    ] = None,
    idle: Annotated[
        float, typer.Option(min=1, help="Seconds without work after which a helper ends.")
    ] = 300.0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what to run where, and what fits; no server.")
    ] = False,
    model_size: Annotated[
        float | None, typer.Option(help="Billions of parameters that --explain works out.")
    ] = None,
) -> None:
    """Put a run on a Prefect server: work pool, a queue per GPU, deployments, a schedule."""
    edge: Edge = context.obj
    with edge.answering():
        if explain:
            from flows.explain import page

            typer.echo(page(model_size))
            return
        from flows.settings import load_config, settings_of

        changes = [*settings_of(recipe), *(change or [])]
        read = load_config(config, changes)  # a mistake is told before Prefect is imported
        if name is None:
            raise Refusal("a deployment needs a name", remedy="--name NAME, which the run has too")
        from flows import putting

        asked = putting.Asked(
            name, run or name, pool, type, image, gpus, _listed(machines), _listed(queues),
            train_queue, cron, interval, rrule, timezone, rounds, rounds_more, idle,
        )  # fmt: skip
        putting.put(edge.home, read, asked)


def _listed(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
