"""What a worker that was killed has left in its queue: flow runs that look as if they still ran.

A queue lets one flow run at a time, so such a one would keep it shut. Importing this module imports
Prefect.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkQueueFilter,
    WorkQueueFilterId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, Worker
from prefect.states import Crashed

from flows.errors import Refusal

AT_WORK = [StateType.PENDING, StateType.RUNNING]
SILENT = 3  # heartbeats that a worker may miss before it is gone


def name_of(queue: str) -> str:
    """The name under which this machine serves a queue."""
    return f"{queue} on {socket.gethostname()}"


def clear(client: SyncPrefectClient, pool: str, queue: str) -> list[str]:
    """Mark what a lost worker left in the queue as crashed; the names of those flow runs.

    What still runs on this machine, though its worker was killed, is left to end by itself. Raises
    Refusal while a worker of another machine serves the queue.
    """
    refuse_second(client.read_workers_for_work_pool(pool), queue, datetime.now(UTC))
    lost = [run for run in _at_work(client, pool, queue) if not is_here(run)]
    for run in lost:
        gone: State = Crashed(message="The worker that started it is gone.")
        client.set_flow_run_state(run.id, gone, force=True)
    return [run.name for run in lost]


def refuse_second(workers: Sequence[Worker], queue: str, now: datetime) -> None:
    """Raise Refusal where another machine's worker of this queue was heard of lately."""
    for worker in workers:
        if not worker.name.startswith(f"{queue} on ") or worker.name == name_of(queue):
            continue
        if worker.last_heartbeat_time is None:
            continue
        silent = (now - worker.last_heartbeat_time).total_seconds()
        left = SILENT * (worker.heartbeat_interval_seconds or 30) - silent
        if left > 0:
            raise Refusal(
                f"the queue {queue} is served already, by {worker.name}",
                remedy=f"stop that worker; if it is lost, try again in {left:.0f} s",
            )


def is_here(run: FlowRun, processes: Path = Path("/proc")) -> bool:
    """Whether the flow run's process is one of this machine, and alive."""
    try:
        told = (processes / str(run.infrastructure_pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return b"prefect" in told


def _at_work(client: SyncPrefectClient, pool: str, queue: str) -> list[FlowRun]:
    found = client.read_work_queue_by_name(queue, work_pool_name=pool)
    return client.read_flow_runs(
        work_queue_filter=WorkQueueFilter(id=WorkQueueFilterId(any_=[found.id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=AT_WORK))
        ),
    )
