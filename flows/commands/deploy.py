"""The command that puts a run on a Prefect server: deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.edge import Edge, Recipe, Set
from flows.errors import Refusal

Config = Annotated[Path | None, typer.Argument(help="A TOML file; defaults without.")]
Named = Annotated[str | None, typer.Option(help="The deployment's name, and the run's.")]
Run = Annotated[str | None, typer.Option(help="The run's name, if not the deployment's.")]
Pool = Annotated[str, typer.Option(help="The work pool.")]
Type = Annotated[
    str, typer.Option(help="The pool's type: process, or docker or kubernetes with --image.")
]
Image = Annotated[
    str | None, typer.Option(help="Image with coclimb installed, for docker and kubernetes.")
]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs that help: a queue each, gpu-0 and on.")]
Machines = Annotated[
    str | None, typer.Option(help="Names, separated by commas, of machines with --gpus each.")
]
Queues = Annotated[
    str | None, typer.Option(help="The helping queues by name, separated by commas.")
]
Train = Annotated[str, typer.Option(help="The queue of the run itself.")]
Cron = Annotated[str | None, typer.Option(help="Fire by a cron line, as '0 2 * * *'.")]
Interval = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Fire every so many seconds.")
]
Rule = Annotated[str | None, typer.Option(help="Fire by an iCalendar rule.")]
Zone = Annotated[str | None, typer.Option(help="Zone of the schedule, as Europe/Berlin.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Rounds to climb in all.")]
More = Annotated[
    int | None, typer.Option(min=1, help="Most rounds that one firing climbs; else all.")
]
Idle = Annotated[float, typer.Option(min=1, help="Seconds unused after which a helper ends.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say what to run where, and what fits; no server.")
]
Size = Annotated[float | None, typer.Option(help="Billions of parameters, for --explain.")]


def deploy(
    context: typer.Context,
    config: Config = None,
    recipe: Recipe = None,
    change: Set = None,
    name: Named = None,
    run: Run = None,
    pool: Pool = "coclimb",
    type: Type = "process",
    image: Image = None,
    gpus: Gpus = 0,
    machines: Machines = None,
    queues: Queues = None,
    train_queue: Train = "train",
    cron: Cron = None,
    interval: Interval = None,
    rrule: Rule = None,
    timezone: Zone = None,
    rounds: Rounds = None,
    rounds_more: More = None,
    idle: Idle = 300.0,
    explain: Explain = False,
    model_size: Size = None,
) -> None:
    """Put a run on a Prefect server: work pool, a queue per GPU, deployments, a schedule."""
    edge: Edge = context.obj
    with edge.answering():
        if explain:
            from flows.deployment.explain import page

            typer.echo(page(model_size))
            return
        from flows.settings import load_config, settings_of

        changes = [*settings_of(recipe), *(change or [])]
        read = load_config(config, changes)  # a mistake is told before Prefect is imported
        if name is None:
            raise Refusal("a deployment needs a name", remedy="--name NAME, which the run has too")
        from flows.deployment import putting

        asked = putting.Asked(
            name, run or name, pool, type, image, gpus, _listed(machines), _listed(queues),
            train_queue, cron, interval, rrule, timezone, rounds, rounds_more, idle,
        )  # fmt: skip
        putting.put(edge.home, read, asked)


def _listed(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
