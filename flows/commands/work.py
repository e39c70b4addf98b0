"""The command of workers."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.edge import Edge
from flows.errors import Refusal


def worker(
    context: typer.Context,
    queue: Annotated[
        str | None,
        typer.Argument(help="A queue that `coclimb deploy` made, as gpu-0; none: without Prefect."),
    ] = None,
    pool: Annotated[str, typer.Option(help="The work pool that the queue is in.")] = "coclimb",
    run: Annotated[
        str | None, typer.Option(help="Items of this run alone; else of any that has some.")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without an item.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="To compute with; else as many as the run's own.")
    ] = None,
) -> None:
    """Work out what runs with work.queue ask, item by item; or what Prefect starts on a queue."""
    edge: Edge = context.obj
    with edge.answering():
        if queue is None:
            from flows import working

            working.work(edge.home, working.Shift(run, idle, threads=threads))
            return
        if any(given is not None for given in (run, idle, threads)):
            raise Refusal(
                "--run, --idle and --threads are for a worker without a queue",
                remedy="what is started on a queue was told all of it by `coclimb deploy`",
            )
        from flows.deployment.serving import serve_queue

        serve_queue(queue, pool)
