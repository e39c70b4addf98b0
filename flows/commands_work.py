"""The command of workers."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.edge import Edge


def worker(
    context: typer.Context,
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
    """Work out what runs with work.queue ask: sample, score and measure, item by item."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import working

        working.work(edge.home, working.Shift(run, idle, threads=threads))
