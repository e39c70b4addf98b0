"""A Prefect worker on one queue, in this process: it starts a flow run at a time and waits for it.

Importing this module imports Prefect.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import (
    ProcessJobConfiguration,
    ProcessWorker,
    ProcessWorkerResult,
)

from flows.deployment.leftovers import clear, name_of
from flows.deployment.queues import VISIBLE, devices
from flows.deployment.reaching import reaching, refuse_without_server
from flows.errors import Refusal
from flows.evolve import AWAY
from flows.server import own_path

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from prefect.client.schemas.objects import FlowRun

POLL = 0.2  # seconds between looks at whether a flow has ended

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it takes the place of Prefect's own, by its type

    class Patient(ProcessWorker):
        """A process worker that waits for its server, and whose flows end before it does.

        Prefect's own gives its server up after twelve failures in a row, and kills the flow that
        it has started, though that one needs no server.
        """

        type = "process"
        stopping = False

        async def get_and_submit_flow_runs(self) -> list[FlowRun]:
            if self.stopping:
                return []
            try:
                return await super().get_and_submit_flow_runs()
            except AWAY:
                return []

        async def sync_with_backend(self) -> None:
            try:
                await super().sync_with_backend()
            except AWAY as error:
                self._logger.warning("the server does not answer: %s", type(error).__name__)

        async def run(
            self,
            flow_run: FlowRun,
            configuration: ProcessJobConfiguration,
            task_status: TaskStatus[int] | None = None,
        ) -> ProcessWorkerResult:
            self.started = _Started(task_status)
            try:
                return await super().run(flow_run, configuration, self.started)
            finally:
                self.started = None

        started: _Started | None = None

        async def finish(self) -> None:
            """Take nothing more, tell the flow at work to end, and wait until it has."""
            self.stopping = True
            if self.started is not None and self.started.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(self.started.pid, signal.SIGTERM)
            while self.started is not None:
                await asyncio.sleep(POLL)


class _Started:
    """Fills anyio's TaskStatus: passes on which process was started, and remembers it."""

    def __init__(self, told: TaskStatus[int] | None) -> None:
        self.told, self.pid = told, cast("int | None", None)

    def started(self, value: int | None = None) -> None:
        self.pid = value
        if self.told is not None and value is not None:
            self.told.started(value)


def serve(queue: str, pool: str) -> None:
    """Start what is scheduled on the queue, one at a time, until told to stop.

    A queue named after a GPU, such as gpu-3 or node7-gpu-3, keeps to that GPU unless
    CUDA_VISIBLE_DEVICES says otherwise. Raises Refusal where pool or queue are not there.
    """
    refuse_without_server()
    with reaching(), get_client(sync_client=True) as client:
        _check(client, queue, pool)
        for name in clear(client, pool, queue):
            print(f"{name} was left by a worker that is gone; it is marked as crashed")
    for name, value in devices(queue).items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONPATH"] = own_path()  # what is started imports the same code
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    print(f"worker of {pool}/{queue}, GPUs: {os.environ.get(VISIBLE, 'as the machine has them')}")
    worker = Patient(
        name=name_of(queue),
        work_pool_name=pool,
        work_queues=[queue],
        limit=1,
        create_pool_if_not_found=False,
    )
    asyncio.run(_until_told(worker))
    print(f"the worker of {queue} has stopped", flush=True)


async def _until_told(worker: Patient) -> None:
    """Work until Ctrl-C or SIGTERM; the flow at work is told to end, a second signal kills it."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    working = asyncio.create_task(worker.start(printer=print))
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working.done():
        await working  # raises what it ended with
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    print("told to stop; a flow at work ends first, once more kills it", flush=True)
    finishing = asyncio.create_task(worker.finish())
    await asyncio.wait({working, finishing}, return_when=asyncio.FIRST_COMPLETED)
    finishing.cancel()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


def _check(client: SyncPrefectClient, queue: str, pool: str) -> None:
    deploys = "`coclimb deploy --name RUN` makes pool and queues"
    try:
        kind = client.read_work_pool(pool).type
    except ObjectNotFound:
        raise Refusal(f"there is no work pool {pool}", remedy=deploys) from None
    if kind != "process":
        raise Refusal(
            f"the work pool {pool} is of type {kind}, which has a worker of its own",
            remedy=f"pip install 'prefect[{kind}]'; then "
            f"prefect worker start --pool {pool} --work-queue {queue} --limit 1",
        )
    listed = {found.name for found in client.read_work_queues(work_pool_name=pool)}
    if queue not in listed:
        raise Refusal(
            f"the work pool {pool} has no queue {queue}",
            [f"there is {name}" for name in sorted(listed)],
            deploys,
        )
