"""Helpers of a climbing run: a flow run on the queue of each GPU, started by the one that climbs.

They only make it faster: without them, or without Prefect's server, the run goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
from sqlalchemy.exc import DBAPIError

from flows.evolve import AWAY
from flows.live import Live
from store.errors import StoreError
from store.work import unanswered

FLOW = "coclimb-help"
WAITING = [StateType.SCHEDULED, StateType.PENDING]
UNENDED = [*WAITING, StateType.RUNNING]


Say = Callable[[str], None]
AGAIN = 10.0  # seconds between two looks for helpers that were lost, or went for want of work
PARTING = 5.0  # seconds that a look in progress has to end


@contextmanager
def called(deployments: Sequence[str], live: Live, idle: float) -> Iterator[None]:
    """In this block every one of these deployments has a flow run that helps the run.

    Where one is at it or waits already, no other is started. While items are unanswered, a helper
    that was lost, or has ended for want of work, is called anew. Those that no worker took up are
    called off at the end of the block; the others end by themselves.
    """
    say = live.progress.say
    calling = _Calling(deployments, live, idle)
    calling.call(say)
    if calling.started:
        say(f"called {len(calling.started)} helpers, one to each queue")
    over = threading.Event()
    again = threading.Thread(target=calling.again, args=(over,), name="helpers", daemon=True)
    again.start()
    try:
        yield
    finally:
        over.set()
        again.join(PARTING)  # a server that does not answer may hold it for a minute
        _call_off(calling.started, live)


@dataclass
class _Calling:
    """Who is called for a run; started: the flow runs that this process has asked for."""

    deployments: Sequence[str]
    live: Live
    idle: float
    started: list[UUID] = field(default_factory=list)

    def call(self, say: Say) -> None:
        """Start a helper of every deployment that has none; none where Prefect cannot."""
        for name in self.deployments:
            try:
                with get_client(sync_client=True) as client:
                    self.started += self._call(client, name)
            except ObjectNotFound:
                say(f"no deployment is called {FLOW}/{name}; `coclimb deploy` makes it anew")
            except AWAY as error:  # each try takes a minute: it is away for the others too
                say(f"no helper could be called by {name}: {type(error).__name__}")
                return

    def again(self, over: threading.Event) -> None:
        """Call again while items are unanswered; the first call has told what there is to tell."""
        while not over.wait(AGAIN):
            with suppress(StoreError, DBAPIError):  # the run itself meets what ails the store
                if unanswered(self.live.store, self.live.run):
                    self.call(lambda told: None)

    def _call(self, client: SyncPrefectClient, name: str) -> Iterator[UUID]:
        deployment = client.read_deployment_by_name(f"{FLOW}/{name}")
        if not _at_it(client, deployment.id):
            asked = {**deployment.parameters, "run": self.live.run, "idle": self.idle}
            yield client.create_flow_run_from_deployment(deployment.id, parameters=asked).id


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
                with suppress(ObjectNotFound):  # somebody deleted it
                    _call_one_off(client, one, live.run)
    except AWAY:
        live.progress.say("helpers that no worker took up may still wait in their queues")


def _call_one_off(client: SyncPrefectClient, one: UUID, run: str) -> None:
    if client.read_flow_run(one).state_type in WAITING:
        said: State = Cancelled(message=f"run {run} is through; no worker had taken it")
        client.set_flow_run_state(one, said, force=True)


def _state(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
