"""Helpers of a climbing run: a flow run on the queue of each GPU, started by the one that climbs.

They only make it faster: without them, or without Prefect's server, the run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from flows.evolve import AWAY
from flows.live import Live

FLOW = "coclimb-help"
WAITING = [StateType.SCHEDULED, StateType.PENDING]
UNENDED = [*WAITING, StateType.RUNNING]


@contextmanager
def called(deployments: Sequence[str], live: Live, idle: float) -> Iterator[None]:
    """In this block every one of these deployments has a flow run that helps the run.

    Where one is at it or waits already, no other is started. Those that no worker took up are
    called off at the end of the block; the others end by themselves.
    """
    started = [found for name in deployments for found in _call(name, live, idle)]
    if started:
        live.progress.say(f"called {len(started)} helpers, one to each queue")
    try:
        yield
    finally:
        _call_off(started, live)


def _call(name: str, live: Live, idle: float) -> Iterator[UUID]:
    """Start a helper; none where there is one, and none where Prefect cannot."""
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"{FLOW}/{name}")
            asked = {"run": live.run, "idle": idle}
            if not _at_it(client, deployment.id):
                parameters = {**deployment.parameters, **asked}
                yield client.create_flow_run_from_deployment(
                    deployment.id, parameters=parameters
                ).id
    except ObjectNotFound:
        live.progress.say(f"no deployment is called {FLOW}/{name}; `coclimb deploy` makes it anew")
    except AWAY as error:
        live.progress.say(f"no helper could be called by {name}: {type(error).__name__}")


def _at_it(client: SyncPrefectClient, deployment: UUID) -> bool:
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=_state(UNENDED)),
        limit=1,
    )
    return bool(found)


def _call_off(started: Sequence[UUID], live: Live) -> None:
    try:
        with get_client(sync_client=True) as client:
            for one in started:
                if client.read_flow_run(one).state_type in WAITING:
                    said: State = Cancelled(
                        message=f"run {live.run} is through; no worker had taken it"
                    )
                    client.set_flow_run_state(one, said, force=True)
    except AWAY:
        live.progress.say("helpers that no worker took up may still wait in their queues")


def _state(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
