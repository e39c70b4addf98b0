"""Prefect's temporary server: no set-up, no network, and it ends with whoever started it.

Prefect can start one by itself, but in the terminal's process group, where Ctrl-C stops it before
the flow could report, and it outlives a kill of the flow. This one runs in a session of its own
and watches a pipe that closes when its starter is gone, however it went.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import Refusal

if TYPE_CHECKING:
    import uvicorn

ADDRESS = "PREFECT_API_URL"
PATIENCE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
GRACE = 3.0  # seconds a server has to end by itself

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # a failure is told once, by the command line
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_COLORS": "false",
    PATIENCE: "90",
}


def settings(home: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What to set before Prefect is imported, where nobody has set it otherwise.

    home  Prefect's folder, unless a server of one's own is named
    """
    wanted = dict(QUIET) if ADDRESS in given else {**QUIET, "PREFECT_HOME": str(home)}
    return {name: value for name, value in wanted.items() if name not in given}


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """In this block Prefect has a server: the one of PREFECT_API_URL, else a temporary one.

    It is starting while the block begins; `await_server` waits until it answers. Sets the
    environment, so Prefect must not be imported earlier.
    """
    os.environ.update(settings(home, os.environ))
    if ADDRESS in os.environ:
        yield
        return
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, "PREFECT_UI_ENABLED": "false", "PYTHONPATH": _own_path()},
        )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line.strip().isdigit():
            raise _unable(log, "it said nothing")
        os.environ[ADDRESS] = f"http://127.0.0.1:{int(line)}/api"
        yield
    finally:
        os.environ.pop(ADDRESS, None)
        _end(process)


def await_server(home: Path) -> None:
    """Return once the server answers. Raises Refusal where it does not within the time set."""
    until = time.monotonic() + float(os.environ[PATIENCE])
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{os.environ[ADDRESS]}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise _unable(home / "server.log", f"{os.environ[ADDRESS]} did not answer")


def _unable(log: Path, found: str) -> Refusal:
    said = log.read_text(errors="replace").splitlines()[-5:] if log.is_file() else []
    return Refusal(
        f"Prefect's server did not start: {found}",
        said,
        "`coclimb doctor` looks at what is installed; --plain runs the same stages without it",
    )


def _own_path() -> str:
    """Where this package is imported from, first, for the child."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH", "")])])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, so that the child ends; then insist."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    try:
        process.wait(2 * GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _serve() -> None:
    """The child: tell the port, serve Prefect's app on it, end when standard input closes."""
    serving: list[uvicorn.Server] = []

    def watch() -> None:
        sys.stdin.buffer.read()
        for server in serving:
            server.should_exit = True
        time.sleep(GRACE if serving else 0.0)
        os._exit(0)  # it had its time

    threading.Thread(target=watch, daemon=True).start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    import uvicorn  # noqa: PLC0415 - the starter needs none of these
    from prefect.server.api.server import create_app  # noqa: PLC0415

    app = create_app(ephemeral=True, final=True)
    serving.append(uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")))
    serving[0].run(sockets=[listener])


if __name__ == "__main__":
    _serve()
