"""What `coclimb deploy` makes on a Prefect server: a pool, its queues, a run's deployments.

Made again with other settings, each is changed in place. Importing this module imports Prefect.

A run has one owner by its lease in the store, whichever deployments fire at it, so deployments
carry no concurrency limit of Prefect's: a flow that cannot renew the slot of such a limit, because
the server is away or has forgotten it, is ended by Prefect (`prefect.concurrency._leases`). One
firing at a time is what the limit of the run's queue is for, which no flow has to renew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule
from prefect.types.entrypoint import EntrypointType
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from flows.deployment import deployed
from flows.deployment.firing import Firing
from flows.deployment.reaching import reaching, refuse_without_server
from flows.deployment.schedules import When, schedule_of, skip_overdue
from flows.errors import Refusal
from store.schema import STAGES

# without it Prefect imports a flow twice, in two processes, which doubles the seconds of a start
ENGINE = "python -m prefect.engine"


@dataclass(frozen=True, slots=True)
class Pool:
    """A work pool. kind: process, docker or kubernetes; image: that the last two run."""

    name: str
    kind: str = "process"
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything that is to be there.

    name     of the run's deployment, which those of its stages and helpers begin with
    queues   of the GPUs that help, one each
    train    the queue of the run itself
    address  the store without its password
    env      environment of every flow, the same on every queue
    folder   that flows work in; None for one that ends with each
    idle     seconds without work after which a helper ends
    """

    name: str
    firing: Firing
    pool: Pool
    queues: tuple[str, ...]
    train: str
    when: When
    address: str
    env: Mapping[str, str]
    folder: str | None
    idle: float


def deploy(wanted: Wanted) -> list[str]:
    """Make or change all of it; the names of the deployments, that of the run first.

    Raises Refusal where no server is named or none answers, and for a schedule that is none.
    """
    schedule = schedule_of(wanted.when)
    refuse_without_server()
    with reaching(), get_client(sync_client=True) as client:
        _make_pool(client, wanted.pool)
        for queue in dict.fromkeys((wanted.train, *wanted.queues)):
            _make_queue(client, wanted.pool.name, queue)
        return [_apply(client, one, wanted, schedule) for one in _deployments(wanted)]


def _make_pool(client: SyncPrefectClient, pool: Pool) -> None:
    """The pool, made if it is not there. Raises Refusal where it is of another type."""
    try:
        kind = client.read_work_pool(pool.name).type
    except ObjectNotFound:
        template = asyncio.run(get_default_base_job_template_for_infrastructure_type(pool.kind))
        if template is None:
            raise Refusal(
                f"Prefect's server knows no work pools of type {pool.kind}",
                remedy=f"pip install 'prefect[{pool.kind}]' here, then deploy again",
            ) from None
        made = WorkPoolCreate(name=pool.name, type=pool.kind, base_job_template=template)
        client.create_work_pool(made)
        return
    if kind != pool.kind:
        raise Refusal(
            f"the work pool {pool.name} is of type {kind}, not {pool.kind}",
            remedy=f"name another with --pool, or give --type {kind}",
        )


def _make_queue(client: SyncPrefectClient, pool: str, queue: str) -> None:
    """A queue that lets one flow run at a time; made, or changed to that."""
    try:
        found = client.read_work_queue_by_name(queue, work_pool_name=pool)
    except ObjectNotFound:
        found = client.create_work_queue(queue, work_pool_name=pool)
    client.update_work_queue(found.id, concurrency_limit=1)


@dataclass(frozen=True, slots=True)
class _One:
    """A deployment to make."""

    flow: Flow[..., State]
    name: str
    queue: str
    parameters: dict[str, object]
    scheduled: bool = False

    @property
    def full(self) -> str:
        return f"{self.flow.name}/{self.name}"


def _deployments(wanted: Wanted) -> Iterator[_One]:
    """That of the run, those of its stages, and those of its helpers."""
    firing = wanted.firing
    run: dict[str, object] = {
        "name": firing.name,
        "config": firing.config.model_dump(mode="json"),
        "store": wanted.address,
    }
    helpers = {queue: f"{wanted.name}-{queue}" for queue in wanted.queues}
    bounds = {"rounds": firing.rounds, "rounds_more": firing.rounds_more}
    calls = {"helpers": list(helpers.values()), "idle": wanted.idle}
    yield _One(deployed.climb, wanted.name, wanted.train, {**run, **bounds, **calls}, True)
    for stage in STAGES:
        asked = {**run, "stage": stage}
        yield _One(deployed.stage, f"{wanted.name}-{stage}", wanted.train, asked)
    for queue, name in helpers.items():
        asked = {"run": firing.name, "idle": wanted.idle, "store": wanted.address}
        yield _One(deployed.help, name, queue, asked)


def _apply(client: SyncPrefectClient, one: _One, wanted: Wanted, schedule: Schedule | None) -> str:
    """Make a deployment, or change the one of that name."""
    given = RunnerDeployment.from_flow(
        one.flow,
        one.name,
        schedules=[schedule] if schedule and one.scheduled else [],
        parameters=one.parameters,
        tags=["coclimb"],
        work_pool_name=wanted.pool.name,
        work_queue_name=one.queue,
        job_variables=_job(wanted),
        entrypoint_type=EntrypointType.MODULE_PATH,  # of what is installed where the worker is
    )
    made = cast(UUID, given.apply())  # outside of a running loop it waits
    if one.scheduled:
        skip_overdue(client, made, "The schedule was changed.")
    return one.full


def _job(wanted: Wanted) -> dict[str, object]:
    """What a pool of this type fills into its base job template.

    Which GPU a flow may use is not in it: that is for the worker, or the cluster, to say.
    """
    job: dict[str, object] = {"env": dict(wanted.env)}
    if wanted.pool.image is not None:
        job["image"] = wanted.pool.image
    if wanted.pool.kind == "process":
        job["command"] = ENGINE
        if wanted.folder is not None:
            job["working_dir"] = wanted.folder
    return job
