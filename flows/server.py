"""Prefect's temporary server: no set-up, no network, and it ends with whoever started it.

Prefect can start one by itself, but in the terminal's process group, where Ctrl-C stops it before
the flow could report, and it outlives a kill of the flow. This one runs in a session of its own
and watches a pipe that closes when its starter is gone, however it went.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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


def lasting(given: Mapping[str, str]) -> dict[str, str]:
    """What to set before Prefect is imported to use a server that stays, and never another."""
    names = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_CLI_COLORS")
    wanted = {name: QUIET[name] for name in names}
    wanted["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
    return {name: value for name, value in wanted.items() if name not in given}


@dataclass(frozen=True, slots=True)
class Server:
    """The server of a block; process is None where it is somebody else's."""

    process: subprocess.Popen[bytes] | None
    log: Path

    def wait(self) -> None:
        """Return once it answers. Raises Refusal where it ends, or takes longer than set."""
        until = time.monotonic() + float(os.environ[PATIENCE])
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{os.environ[ADDRESS]}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            if self.process is not None and self.process.poll() is not None:
                raise _unable(self.log, f"it ended with {self.process.returncode}")
        raise _unable(self.log, f"{os.environ[ADDRESS]} did not answer")


@contextmanager
def prefect_server(home: Path) -> Iterator[Server]:
    """In this block Prefect has a server: the one of PREFECT_API_URL, else a temporary one.

    It is starting while the block begins; `Server.wait` returns when it answers. Sets the
    environment, so Prefect must not be imported earlier.
    """
    os.environ.update(settings(home, os.environ))
    if ADDRESS in os.environ:
        yield Server(None, home / "server.log")
        return
    with _folder(home) as folder:
        log = folder / "server.log"
        process = _start(folder, log)
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line.strip().isdigit():
                raise _unable(log, "it said nothing")
            os.environ[ADDRESS] = f"http://127.0.0.1:{int(line)}/api"
            yield Server(process, log)
        finally:
            os.environ.pop(ADDRESS, None)
            _end(process)


@contextmanager
def _folder(home: Path) -> Iterator[Path]:
    """Prefect's folder for one server: the home's, or one for this block while that is in use.

    Two servers that make one database at once end each other; one that finds it made starts
    seconds sooner.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "in-use").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(prefix="coclimb-prefect-") as folder:
                yield Path(folder)
            return
        yield home


def _start(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """The child, with Prefect's database in `folder` unless it was set otherwise."""
    chosen = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db"}
    own = {"PREFECT_UI_ENABLED": "false", "PYTHONPATH": own_path()}
    with log.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env={**chosen, **os.environ, **own},
        )


def _unable(log: Path, found: str) -> Refusal:
    said = log.read_text(errors="replace").splitlines()[-10:] if log.is_file() else []
    return Refusal(
        f"Prefect's server did not start: {found}",
        said,
        "`coclimb doctor` looks at what is installed; --plain runs the same stages without it",
    )


def own_path() -> str:
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
