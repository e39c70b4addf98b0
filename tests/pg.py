"""A PostgreSQL of one's own in a temporary folder, to be stopped, killed and started at will."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pgserver

BIN = Path(pgserver.__file__).parent / "pginstall" / "bin"
URL = "postgresql+psycopg://postgres@/postgres?host="


class PgServer:
    """The server listens on a socket in its folder; fsync is on unless `careless`."""

    def __init__(self, folder: Path, *, careless: bool = False) -> None:
        first = pgserver.get_server(folder, cleanup_mode=None)  # makes the cluster and its user
        self.folder, self.user = folder, first.system_user
        self.url = f"{URL}{folder}"
        if careless:
            with (folder / "postgresql.auto.conf").open("a") as file:
                file.write("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n")
            self.restart("fast")

    def start(self) -> None:
        """Start it; after a kill the old processes may still be on their way out."""
        place = ["-l", str(self.folder / "log"), "-o", f"-h '' -k {self.folder}"]
        for last in (*[False] * 20, True):
            done = self._control(*place, "start", check=last)
            if done == 0:
                return
            time.sleep(0.2)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends sessions in order, "immediate" drops everything as a crash would."""
        self._control("-m", mode, "stop")

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children end by themselves."""
        os.kill(self.pid(), signal.SIGKILL)

    def restart(self, mode: str) -> None:
        """mode: fast, immediate or kill."""
        if mode == "kill":
            self.kill()
        else:
            self.stop(mode)
        self.start()

    def pid(self) -> int:
        """The postmaster's process."""
        return int((self.folder / "postmaster.pid").read_text().splitlines()[0])

    def remove(self) -> None:
        """Stop it for good and delete its folder."""
        self._control("-m", "immediate", "stop", check=False)
        shutil.rmtree(self.folder)

    def _control(self, *arguments: str, check: bool = True) -> int:
        command = [str(BIN / "pg_ctl"), "-D", str(self.folder), "-w", "-t", "60", *arguments]
        return subprocess.run(
            command,
            check=check,
            user=self.user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        ).returncode


@contextmanager
def own_server(*, careless: bool = False) -> Iterator[PgServer]:
    """A server for the length of the block. Its folder is not pytest's, whose mode every new
    session resets under the server's own user."""
    server = PgServer(Path(tempfile.mkdtemp(prefix="coclimb-pg-")), careless=careless)
    try:
        yield server
    finally:
        server.remove()
