"""Schedules of deployments: one form each, read before anything is made.

Importing this module imports Prefect.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.schedules import Cron, Interval, RRule, Schedule
from prefect.states import Cancelled

from flows.deployment.reaching import reaching
from flows.errors import Refusal

PLANS = 20.0  # seconds; the server looks for new schedules every 5
EXAMPLES = {
    "--cron": "'0 2 * * *', every night at two",
    "--interval": "3600, every hour",
    "--rrule": "'FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=2;BYMINUTE=0'",
}


@dataclass(frozen=True, slots=True)
class When:
    """One schedule, or none.

    interval  seconds between firings
    timezone  that cron and rrule are read in, such as Europe/Berlin
    """

    cron: str | None = None
    interval: float | None = None
    rrule: str | None = None
    timezone: str | None = None


def schedule_of(when: When) -> Schedule | None:
    """Prefect's schedule. Raises Refusal for several at once and for one that cannot be read."""
    forms = {"--cron": when.cron, "--interval": when.interval, "--rrule": when.rrule}
    given = [option for option, value in forms.items() if value is not None]
    if len(given) > 1:
        raise Refusal(f"{' and '.join(given)} are one schedule each; give one of them")
    if not given:
        return None
    try:
        if when.timezone is not None:
            ZoneInfo(when.timezone)
        if when.cron is not None:
            return Cron(when.cron, timezone=when.timezone)
        if when.interval is not None:
            return Interval(_above_zero(when.interval), timezone=when.timezone)
        return RRule(str(when.rrule), timezone=when.timezone)
    except (ValueError, ZoneInfoNotFoundError) as error:
        told = f"{given[0]} {forms[given[0]]}"
        raise Refusal(f"{told}: {error}", remedy="such as " + EXAMPLES[given[0]]) from error


def planned(deployment: str) -> datetime | None:
    """When the server will fire it next; None where it has planned nothing within `PLANS` seconds.

    deployment  by its full name
    """
    until = time.monotonic() + PLANS
    with reaching(), get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        while time.monotonic() < until:
            runs = _waiting(client, found.id)
            due = [run.expected_start_time for run in runs if run.expected_start_time is not None]
            if due:
                return min(due)
            time.sleep(1.0)
    return None


def skip_overdue(client: SyncPrefectClient, deployment: UUID, why: str) -> int:
    """Call off the scheduled firings that are due and have not begun; how many there were.

    Else a schedule that is faster than a round leaves a queue of them behind it. Those that were
    asked for by hand stay.
    """
    now = datetime.now(UTC)
    overdue = [
        run
        for run in _waiting(client, deployment)
        if run.auto_scheduled and run.expected_start_time and run.expected_start_time <= now
    ]
    for run in overdue:
        skipped: State = Cancelled(name="Skipped", message=why)
        client.set_flow_run_state(run.id, skipped, force=True)
    return len(overdue)


def _waiting(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=state),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )


def _above_zero(seconds: float) -> timedelta:
    if not seconds > 0:
        raise ValueError("an interval is longer than 0 seconds")
    return timedelta(seconds=seconds)
