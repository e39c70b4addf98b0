"""The flows that a Prefect worker starts, each in a process of its own: climb, one stage, help.

Parameters are plain JSON and small. Where home and store are stands in the environment of the
worker, or of the deployment's job variables (COCLIMB_HOME, COCLIMB_STORE), so that no password
reaches Prefect. Whether a run is free, and what of it is done, the store says: a firing that comes
while another process owns the run ends as Refused, with that owner's name.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, Failed
from pydantic import Field, JsonValue, ValidationError
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from flows.deployment.address import bare
from flows.deployment.firing import Firing, climb_some, find_or_begin, take_one
from flows.deployment.helping import called
from flows.deployment.schedules import skip_overdue
from flows.deployment.unread import outlive_reader
from flows.display import Lines
from flows.errors import Refusal
from flows.evolve import AWAY, showing
from flows.home import STORE, Home, find_home, make_home
from flows.live import Live, Place
from flows.owning import Interrupted
from flows.settings import build
from flows.working import Shift, work
from pipeline.config import RunConfig, recorded
from store.database import Store
from store.errors import Owned, StoreError

Name = Annotated[str, Field(description="The run's name; begun where there is none.")]
Config = Annotated[
    dict[str, JsonValue], Field(description="Settings, as `coclimb init` writes them.")
]
Address = Annotated[
    str, Field(description="The store without its password; COCLIMB_STORE must name the same.")
]


class Told(Lines):
    """Fills Progress with lines of the flow run's log."""

    def say(self, text: str) -> None:
        get_run_logger().info(text)


@flow(name="coclimb-climb", flow_run_name="{name}", persist_result=False)
def climb(
    name: Name,
    config: Config,
    store: Address = "",
    rounds: int | None = None,
    rounds_more: int | None = None,
    helpers: list[str] | None = None,
    idle: float = 300.0,
) -> State:
    """Take a run on by some rounds, or to its end, and call a helper to every GPU's queue.

    helpers  deployments that sample and score for the run, one per queue
    idle     seconds without work after which a helper ends
    """

    @contextmanager
    def helped(live: Live) -> Iterator[Callable[[int, str], None]]:
        listed = (helpers or []) if live.config.work.queue else []
        with called(listed, live, idle), showing(live) as shown:
            yield shown.take

    def climbing(home: Home, place: Place) -> str:
        firing = Firing(name, read(config), rounds, rounds_more)
        try:
            return climb_some(find_or_begin(place, firing), firing, Told(Console()), helped)
        finally:
            _skip_overdue()

    return _ended(store, climbing)


@flow(name="coclimb-stage", flow_run_name="{name}-{stage}", persist_result=False)
def stage(name: Name, stage: str, config: Config, store: Address = "") -> State:
    """Take exactly this stage of the run's next open round; another that is next is left alone."""

    @contextmanager
    def alone(live: Live) -> Iterator[Callable[[int, str], None]]:
        with showing(live) as shown:
            yield shown.take

    def taking(home: Home, place: Place) -> str:
        firing = Firing(name, read(config))
        here = find_or_begin(place, firing)
        round = take_one(here, firing, stage, Told(Console()), alone)
        return f"run {here.run}: {stage} of round {round} is committed"

    return _ended(store, taking)


@flow(name="coclimb-help", flow_run_name="help-{run}", persist_result=False)
def help(run: str, idle: float = 300.0, store: Address = "") -> State:
    """Sample, score and measure for a run until it has had no work for `idle` seconds."""

    def helping(home: Home, place: Place) -> str:
        tally = work(home, Shift(run, idle))
        return f"run {run}, {tally.ended}: {tally.told()}"

    return _ended(store, helping)


def read(config: dict[str, JsonValue]) -> RunConfig:
    """Settings as a deployment keeps them, those from before a setting changed its place too.

    Raises Refusal for settings that cannot be.
    """
    try:
        return recorded(json.dumps(config))
    except ValidationError:
        return build(dict(config), (), "the deployment's settings")


def _ended(address: str, work: Callable[[Home, Place], str]) -> State:
    """Do the work where the rows are, and say how it ended in one line of Prefect's."""
    outlive_reader()
    home = find_home(None, None)
    disable_progress_bar()
    try:
        _refuse_another(address, home)
        make_home(home)
        with closing(Store.open(home.store)) as store:
            return Completed(message=work(home, Place(store, home, "")))
    except Owned as error:
        return Completed(name="Refused", message=str(error))  # the run goes on elsewhere
    except (Refusal, StoreError) as error:
        return Failed(name="Refused", message=str(error))
    except Interrupted:  # all is put away; Prefect knows whether it was asked for
        raise TerminationSignal(signal.SIGTERM) from None


def _skip_overdue() -> None:
    """Call off what this deployment's schedule would have fired meanwhile."""
    context = FlowRunContext.get()
    deployment = context.flow_run.deployment_id if context and context.flow_run else None
    if deployment is not None:
        with suppress(*AWAY), get_client(sync_client=True) as client:
            skip_overdue(client, deployment, "It came due while another firing was at work.")


def _refuse_another(address: str, home: Home) -> None:
    """Refuse to work in another store than the one that was deployed for."""
    if address and address != bare(home.store):
        raise Refusal(
            f"this deployment keeps its rows in {address}, and this worker in {bare(home.store)}",
            remedy=f"start the worker with {STORE} naming the first, with its password",
        )
