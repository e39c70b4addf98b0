"""A Prefect server that stays, and what is deployed on it: for tests and studies of deployments."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUSY = (1.0, 2.0, 4.0, 8.0)  # seconds before it is asked again
START = 180.0  # seconds that a server has to answer, on a busy machine
Row = Mapping[str, Any]  # what the server's API answers with


class LastingServer:
    """A server in a folder of its own, on one port, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it; nothing leaves the machine, polls are quick."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        return {
            **os.environ,
            "PYTHONPATH": path,
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "OMP_NUM_THREADS": "1",
        }

    def start(self) -> None:
        """Start it, and return once it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start",
                 "--host", "127.0.0.1", "--port", str(self.port)],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(self._answers, START, f"the server; see {self.folder / 'server.log'}")

    def kill(self) -> None:
        """SIGKILL to it and whatever it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        with suppress(urllib.error.URLError, OSError):
            return bool(self.get("health"))
        return False

    def get(self, path: str) -> Any:
        """What it answers to a question."""
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        """What it answers to a request with a body; one that is busy (503) is asked again."""
        asked = urllib.request.Request(
            f"{self.url}/{path}",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        for wait in (*BUSY, None):
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503 or wait is None:
                    raise
                time.sleep(wait)

    def delete(self, path: str) -> None:
        """Have it forget something."""
        asked = urllib.request.Request(f"{self.url}/{path}", method="DELETE")
        urllib.request.urlopen(asked, timeout=10).close()

    def fire(self, deployment: str) -> str:
        """Have a deployment run now; the id of its flow run."""
        found = self.get(f"deployments/name/{deployment}")["id"]
        return str(self.post(f"deployments/{found}/create_flow_run", {})["id"])

    def flow_runs(self, deployment: str) -> list[Row]:
        """The flow runs of a deployment, the earliest first; none while the server is away."""
        asked = {"sort": "EXPECTED_START_TIME_ASC", "deployments": {"id": {"any_": []}}}
        try:
            found = self.get(f"deployments/name/{deployment}")["id"]
            asked["deployments"] = {"id": {"any_": [found]}}
            return list(self.post("flow_runs/filter", asked))
        except (urllib.error.URLError, OSError):
            return []

    def state(self, flow_run: str) -> Row:
        """How a flow run stands: type, name, message."""
        return dict(self.get(f"flow_runs/{flow_run}")["state"])


def command(home: Path, *arguments: str) -> list[str]:
    """A coclimb command as a process of its own."""
    return [sys.executable, "-u", "-m", "flows.cli", "--home", str(home), *arguments]


def coclimb(server: LastingServer, home: Path, *arguments: str) -> str:
    """What a command prints; raises where it fails."""
    done = subprocess.run(
        command(home, *arguments), env=server.environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"coclimb {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def working(
    server: LastingServer, home: Path, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for the length of the block; it is told to stop, and given time to."""
    name = "-".join(arguments).strip("-")
    with (server.folder / f"worker-{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command(home, "worker", *arguments),
            env=server.environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """Seconds until it holds. Raises TimeoutError where that takes too long."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if holds():
            return time.monotonic() - began
        time.sleep(0.2)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")


def climbing(worker: int) -> list[int]:
    """Processes of flows that a worker has started."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(worker)], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "prefect.engine" in line]
