"""The Prefect flow: the same stages under Prefect's temporary server, and its ways out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from flows import stages
from flows.errors import Refusal
from flows.live import Live
from flows.owning import Interrupted, stoppable
from flows.server import ADDRESS, PATIENCE, QUIET, Server, _folder, prefect_server, settings
from pipeline.faults import armed
from store import questions
from tests.flows.scripted import Bench, Heard

if TYPE_CHECKING:
    from flows.evolve import Shown

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="session")
def run_flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Live], None]]:
    """The flow, with one server for all tests."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(home) as server:
        server.wait()
        from flows.evolve import run_flow as running  # noqa: PLC0415 - after the environment is set

        yield running


@pytest.mark.timeout(240)
def test_the_flow_ends_in_the_chain_of_the_bare_stages(
    run_flow: Callable[[Live], None], tmp_path: Path
) -> None:
    bare, bench = Bench(tmp_path / "bare"), Bench(tmp_path / "flow")
    bare.go_on()
    bench.go_on(work=run_flow)
    assert bench.chain() == bare.chain()
    assert questions.runs(bench.store)[0]["status"] == "done"


@pytest.mark.timeout(240)
def test_sigterm_stops_the_flow_in_seconds_and_it_goes_on(
    run_flow: Callable[[Live], None], tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    started = time.monotonic()
    with stoppable(), armed("upd.row", terminate), pytest.raises(Interrupted, match="SIGTERM"):
        bench.go_on(work=run_flow)
    assert time.monotonic() - started < 30
    (run,) = questions.runs(bench.store)
    assert (run["status"], run["reason"], run["owner"]) == ("stopped", "stopped by SIGTERM", None)
    bench.go_on(work=run_flow)
    assert questions.runs(bench.store)[0]["status"] == "done"


@dataclass
class Broken:
    """Fills what a stage is taken through, as Prefect without its server: before the stage, after
    it, or not at all where the stage itself fails."""

    when: str
    shown: Shown | None = None

    def __call__(self, run: str, round: int, stage: str) -> None:
        assert self.shown is not None
        if self.when != "before":
            self.shown.bare(round, stage)
        if self.when != "never":
            raise httpx.ConnectError("All connection attempts failed")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_is_gone_at_a_stages_border_costs_the_run_nothing(
    when: str, tmp_path: Path
) -> None:
    from flows.evolve import Shown  # noqa: PLC0415 - imports Prefect

    plain, bench, heard = Bench(tmp_path / "bare"), Bench(tmp_path / "broken"), Heard()
    plain.go_on()

    def work(live: Live) -> None:
        through = Broken(when)
        through.shown = Shown(live, through)
        for round, stage in stages.to_do(live):
            through.shown.take(round, stage)
        stages.complete(live)

    bench.go_on(work=work, progress=heard)
    assert bench.chain() == plain.chain()
    assert len(heard.stages) == len(set(heard.stages)) == 12  # none twice
    [said] = [line for line in heard.said if "server" in line]  # once
    assert "ConnectError" in said


def test_what_a_stage_raises_itself_is_not_taken_for_a_gone_server(tmp_path: Path) -> None:
    from flows.evolve import Shown  # noqa: PLC0415 - imports Prefect

    bench, heard = Bench(tmp_path), Heard()

    def work(live: Live) -> None:
        through = Broken("never")
        through.shown = Shown(live, through)
        for round, stage in stages.to_do(live):
            through.shown.take(round, stage)

    def fail() -> None:
        raise httpx.ConnectError("the object store does not answer")

    with armed("upd.row", fail), pytest.raises(httpx.ConnectError, match="object store"):
        bench.go_on(work=work, progress=heard)
    assert questions.runs(bench.store)[0]["status"] == "failed"
    assert not any("server" in line for line in heard.said)


def test_a_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from flows.server import prefect_server\n"
        f"with prefect_server(Path({str(tmp_path)!r})):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
    )
    alone = {name: value for name, value in os.environ.items() if name != ADDRESS}
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=alone)
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"up\n"
    (server,) = children(starter.pid)
    starter.kill()
    starter.wait()
    until = time.monotonic() + 30
    while Path(f"/proc/{server}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{server}").exists()


def test_a_home_that_is_in_use_gives_the_second_server_a_folder_of_its_own(tmp_path: Path) -> None:
    with _folder(tmp_path) as first, _folder(tmp_path) as second:
        assert first == tmp_path
        assert second not in (tmp_path, tmp_path.parent)
        assert second.is_dir()
    assert not second.exists()
    with _folder(tmp_path) as again:
        assert again == tmp_path


def test_a_server_that_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9/api")  # nothing listens there
    monkeypatch.setenv(PATIENCE, "60")
    log = tmp_path / "server.log"
    log.write_text("no such table\n")
    dead = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    started = time.monotonic()
    with pytest.raises(Refusal, match="it ended with 3") as refused:
        Server(dead, log).wait()
    assert time.monotonic() - started < 30
    assert "no such table" in refused.value.told()


def children(parent: int) -> list[int]:
    """Processes that another one started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(number) for number in listed.split()]


def test_a_server_of_ones_own_keeps_its_settings() -> None:
    given = {ADDRESS: "http://prefect.example/api", "PREFECT_LOGGING_LEVEL": "INFO"}
    told = settings(Path("/home"), given)
    assert "PREFECT_HOME" not in told
    assert told == {name: value for name, value in QUIET.items() if name not in given}
    assert settings(Path("/home"), {})["PREFECT_HOME"] == "/home"
