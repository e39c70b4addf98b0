"""A run as a Prefect flow: one task per stage of a round, under the names Prefect shows.

The store decides what is done; Prefect starts, times and shows. Only ids are passed: the parts
of a run live in this process, in `SHOWN`, and nothing of them is hashed, cached or kept by Prefect.
Where its server is gone, stages go on without being shown. Importing this module imports Prefect:
set its environment first (`flows.server`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import stages
from flows.live import Live
from flows.owning import listen

Through = Callable[[str, int, str], None]

# What Prefect raises where its server cannot be asked, after PREFECT_CLIENT_MAX_RETRIES tries (5,
# about a minute in all): no connection or a broken one, and an answer that is an error.
AWAY = (httpx.TransportError, httpx.HTTPStatusError)


@task(
    name="stage",
    task_run_name="round-{round}-{stage}",
    retries=0,  # a stage that failed is retried by `resume`, from what is committed
    cache_policy=NO_CACHE,
    persist_result=False,
)
def take_stage(run: str, round: int, stage: str) -> None:
    """Do one stage of a round, once."""
    SHOWN[run].bare(round, stage)


class Noted:
    """A with block that remembers what was raised in it: it is the run's own, not Prefect's."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.error = error or self.error


class Shown:
    """Takes a run's stages as Prefect tasks, and bare where Prefect's server is gone.

    through  the task, which calls `bare`
    """

    def __init__(self, live: Live, through: Through | None = None) -> None:
        self.live, self.through = live, through or take_stage
        self.noted, self.told = Noted(), False

    def take(self, round: int, stage: str) -> None:
        """Do one stage, once. Raises what the stage raises, and nothing of Prefect's server."""
        try:
            self.through(self.live.run, round, stage)
        except AWAY as error:
            self.refuse_own(error)
            stages.take_stage(self.live, round, stage)  # nothing committed is done again

    def bare(self, round: int, stage: str) -> None:
        """Do one stage, once, and remember what it raises."""
        with self.noted:
            stages.take_stage(self.live, round, stage)

    def refuse_own(self, error: Exception) -> None:
        """Say once that the server is gone; raises what the run itself has raised."""
        if self.noted.error is not None:
            raise error
        if not self.told:
            self.live.progress.say(
                f"Prefect's server does not answer ({type(error).__name__}); the run goes on "
                "without being shown there, and nothing of it is lost"
            )
            self.told = True


SHOWN: dict[str, Shown] = {}


@contextmanager
def showing(live: Live) -> Iterator[Shown]:
    """In this block the run's stages can be taken as Prefect tasks."""
    shown = SHOWN[live.run] = Shown(live)
    try:
        yield shown
    finally:
        del SHOWN[live.run]


@flow(
    name="coclimb",
    flow_run_name="{run}",
    retries=0,
    persist_result=False,
    validate_parameters=False,
)
def evolve(run: str) -> None:
    """Every stage of a run that is still to do."""
    listen()  # Prefect took SIGTERM over when the flow began
    shown = SHOWN[run]
    for round, stage in stages.to_do(shown.live):
        shown.take(round, stage)
    stages.complete(shown.live)


def run_flow(live: Live) -> None:
    """Run the flow in this process; what a stage raises is raised here."""
    with showing(live) as shown:
        try:
            evolve(live.run)
        except AWAY as error:
            shown.refuse_own(error)
            stages.run_stages(live)  # what is left, if anything
