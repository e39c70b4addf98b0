"""Helpers of a deployed run on a real server: one to a queue, called anew only while there is work.

No worker serves the queue here: what would become of a helper is told to the server by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from work_story import item

from flows.live import Live
from flows.stages import run_stages
from store import questions
from store.work import put
from tests.deployments import LastingServer, Row, wait_for
from tests.flows.scripted import Bench, Heard

HELP = "coclimb-help/night-gpu-0"
SECONDS = 60.0  # that the server has for an answer, on a busy machine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LastingServer]:
    """A server with the deployment of one helper."""
    running = LastingServer(tmp_path / "prefect")
    try:
        running.start()
        flow = running.post("flows/", {"name": "coclimb-help"})["id"]
        kept = {"run": "another", "idle": 300.0, "store": "/rows.db"}
        running.post("deployments/", {"name": "night-gpu-0", "flow_id": flow, "parameters": kept})
        yield running
    finally:
        running.kill()


@pytest.fixture
def calling(server: LastingServer, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds between two looks for helpers, of a caller that uses this server."""
    from prefect.client.orchestration import SyncPrefectClient  # noqa: PLC0415 - imports Prefect

    from flows.deployment import helping  # noqa: PLC0415

    monkeypatch.setattr(helping, "get_client", lambda sync_client: SyncPrefectClient(server.url))
    monkeypatch.setattr(helping, "AGAIN", 0.5)
    return 0.5


def tell(server: LastingServer, helper: Row, state: str) -> None:
    server.post(f"flow_runs/{helper['id']}/set_state", {"state": {"type": state}, "force": True})


def states(server: LastingServer) -> list[str]:
    return [str(helper["state"]["type"]) for helper in server.flow_runs(HELP)]


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_lost_helper_is_called_anew_while_items_are_unanswered(
    server: LastingServer, calling: float, tmp_path: Path
) -> None:
    from flows.deployment.helping import called  # noqa: PLC0415 - imports Prefect

    looks = 6 * calling

    def comes_to(wanted: list[str]) -> Callable[[], bool]:
        return lambda: states(server) == wanted

    def work(live: Live) -> None:
        with called(["night-gpu-0", "night-gpu-9"], live, idle=20.0):
            (first,) = server.flow_runs(HELP)
            assert first["parameters"] == {"run": live.run, "idle": 20.0, "store": "/rows.db"}
            tell(server, first, "CRASHED")
            time.sleep(looks)
            assert states(server) == ["CRASHED"]  # nothing waits for an answer
            put(live.store, live.lease, [item("a")])
            wait_for(comes_to(["CRASHED", "SCHEDULED"]), SECONDS, "another helper")
            tell(server, server.flow_runs(HELP)[1], "RUNNING")
            time.sleep(looks)
            assert states(server) == ["CRASHED", "RUNNING"]  # it is at it
            tell(server, server.flow_runs(HELP)[1], "CRASHED")
            wait_for(comes_to(["CRASHED", "CRASHED", "SCHEDULED"]), SECONDS, "a third helper")

    heard, bench = Heard(), Bench(tmp_path / "run")
    bench.go_on(work=work, progress=heard)
    assert states(server) == ["CRASHED", "CRASHED", "CANCELLED"]  # no worker had taken the last
    assert heard.said == [
        "no deployment is called coclimb-help/night-gpu-9; `coclimb deploy` makes it anew",
        "called 1 helpers, one to each queue",
    ]
    bench.store.close()


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_helper_that_somebody_deleted_is_nothing_to_call_off(
    server: LastingServer, calling: float, tmp_path: Path
) -> None:
    from flows.deployment.helping import called  # noqa: PLC0415 - imports Prefect

    def forgotten(live: Live) -> None:
        with called(["night-gpu-0"], live, idle=20.0):
            (helper,) = server.flow_runs(HELP)
            server.delete(f"flow_runs/{helper['id']}")

    bench = Bench(tmp_path / "run")
    bench.go_on(work=forgotten)
    assert server.flow_runs(HELP) == []
    bench.store.close()


@pytest.mark.prefect
def test_where_the_server_is_away_one_deployment_is_tried_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.deployment import helping  # noqa: PLC0415 - imports Prefect

    asked: list[str] = []

    def away(sync_client: bool) -> NoReturn:
        asked.append("a minute of tries")
        raise httpx.ConnectError("nobody is there")

    monkeypatch.setattr(helping, "get_client", away)

    def work(live: Live) -> None:
        with helping.called(["night-gpu-0", "night-gpu-1"], live, idle=20.0):
            run_stages(live)

    heard, bench = Heard(), Bench(tmp_path / "run")
    bench.go_on(work=work, progress=heard)
    assert questions.runs(bench.store)[0]["status"] == "done"
    assert heard.said == [
        "no helper could be called by night-gpu-0: ConnectError",
        "helpers that no worker took up may still wait in their queues",
    ]
    assert len(asked) == 2  # once to call, once to call off
    bench.store.close()
