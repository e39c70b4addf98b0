"""A run as a Prefect flow: one task per stage of a round, under the names Prefect shows.

The store decides what is done; Prefect starts, times and shows. Only ids are passed: the parts
of a run live in this process, in `LIVE`, and nothing of them is hashed, cached or kept by Prefect.
Importing this module imports Prefect: set its environment first (`flows.server`).
"""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import stages
from flows.live import Live
from flows.owning import listen

LIVE: dict[str, Live] = {}


@task(
    name="stage",
    task_run_name="round-{round}-{stage}",
    retries=0,  # a stage that failed is retried by `resume`, from what is committed
    cache_policy=NO_CACHE,
    persist_result=False,
)
def take_stage(run: str, round: int, stage: str) -> None:
    """Do one stage of a round, once."""
    stages.take_stage(LIVE[run], round, stage)


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
    for round, stage in stages.to_do(LIVE[run]):
        take_stage(run, round, stage)
    stages.complete(LIVE[run])


def run_flow(live: Live) -> None:
    """Run the flow in this process; what a stage raises is raised here."""
    LIVE[live.run] = live
    try:
        evolve(live.run)
    finally:
        del LIVE[live.run]
