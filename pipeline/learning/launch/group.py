"""Starts a learner's processes, asks all of them the same, and ends them.

They hang on this process by a socket each: where it ends, however it ends, they end. Where one of
them ends, all are ended, and what it left behind becomes one error.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipeline.learning.launch.command import command, environment
from pipeline.learning.launch.messages import (
    ANSWERS,
    ASKS,
    HELLOS,
    JOB,
    JOBS,
    SOCKET,
    Answer,
    Ask,
    Job,
    line_of,
    write_file,
)

GRACE = 10.0  # seconds that the processes have to end by themselves
LATE = 3.0  # seconds in which the others, and the launcher, tell what befell them
QUOTED = 6  # last lines of the log that an error quotes


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start, where it writes, and how long it may take.

    log             file that the processes' output is appended to
    threads         of each process, on the CPU
    start_seconds   longest start; answer_seconds: longest single ask
    """

    job: Job
    log: Path
    threads: int = 1
    start_seconds: float = 900.0
    answer_seconds: float = 7200.0


class GroupFailed(RuntimeError):
    """A process of the learner's group was lost, failed or took too long; none is left."""


class Process:
    """The asker's end of one process; rank -1 until it has said who it is; over once
    it is gone."""

    def __init__(self, link: socket.socket) -> None:
        self.link, self.rank, self.pid, self.over = link, -1, 0, False
        self._read = b""

    def lines(self) -> list[bytes] | None:
        """The whole lines that have come; None where the process is gone."""
        try:
            came = self.link.recv(2**16)
        except ConnectionError:
            return None
        if not came:
            return None
        *whole, self._read = (self._read + came).split(b"\n")
        return whole

    def kill(self) -> None:
        """End the process and its group at once, unless it is gone: its number may be another's."""
        if self.over or not self.pid:
            return
        with suppress(OSError):
            if self.link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                return
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(self.pid), signal.SIGKILL)


class Group:
    """Processes that have started and hold their lines.

    first  what they answered to the start

    Raises GroupFailed where they do not start.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch, self.size = launch, launch.job.config.learner.processes
        self.folder = Path(tempfile.mkdtemp(prefix="coclimb-learner-"))  # the user's own alone
        self._processes: list[Process] = []
        self._busy, self._closed = True, False
        self._troubles: list[str] = []
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        self._logged = launch.log.stat().st_size if launch.log.exists() else 0
        self._door = socket.socket(socket.AF_UNIX)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            write_file(JOBS, launch.job, self.folder / JOB)
            self._door.bind(str(self.folder / SOCKET))
            self._door.listen(self.size)
            self._launcher = self._start()
            undo.callback(self.close)
            self.first = self._answers("start", launch.start_seconds)
            undo.pop_all()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.launch.log.open("ab") as log:
            return subprocess.Popen(
                command(self.folder, self.size),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self.launch.threads),
                start_new_session=True,
            )

    def file(self, name: str) -> Path:
        """Where a file stands that is handed over. Raises GroupFailed after the end."""
        self._check_open()
        return self.folder / name

    def ask(self, ask: Ask) -> Answer:
        """Have every process do it, and return what they all answer.

        Raises GroupFailed where a process is lost, fails, takes too long or answers otherwise than
        the others; the group is then ended.
        """
        if self._busy:  # whoever asked before was interrupted: answers would come out of order
            self.close()
        self._check_open()
        self._busy = True
        line = line_of(ASKS, ask)
        for process in self._processes:
            with suppress(OSError):  # one that is gone is found when it is listened to
                process.link.sendall(line)
        return self._answers(ask.do, self.launch.answer_seconds)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the launcher and of every process that has said who it is."""
        return self._launcher.pid, *(process.pid for process in self._processes if process.pid)

    def close(self) -> None:
        """End every process: by asking where they wait for an ask, else at once."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):
            if not self._busy:
                for process in self._processes:
                    process.link.sendall(line_of(ASKS, Ask("end")))
                self._wait(GRACE)
        for process in self._processes:
            process.kill()
        self._launcher.terminate()  # it ends what it has started and who has not come here yet
        self._wait(GRACE)
        if self._launcher.poll() is None:
            os.killpg(self._launcher.pid, signal.SIGKILL)
            self._launcher.wait()
        for link in (self._door, *(process.link for process in self._processes)):
            link.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self, asked: str, seconds: float) -> Answer:
        """What the processes answer."""
        found: dict[int, Answer] = {}
        until = time.monotonic() + seconds
        while len(found) < self.size:
            for process in self._heard():
                self._listen(process, found)
            if self._launcher.poll() is not None:
                self._troubles.append("the processes have ended")
            if self._troubles:
                self._fail(asked, found)
            if time.monotonic() > until:
                self._troubles.append(f"{asked} took more than {seconds:.0f} s")
                self._fail(asked, found)
        answer = agreed(found)
        if answer is None:
            self._troubles.append(f"the processes have come apart: {found}")
            self._fail(asked, found)
        self._busy = False
        return answer

    def _listen(self, process: Process, found: dict[int, Answer]) -> None:
        """Take in what a process says: who it is at first, then what became of an ask."""
        lines = process.lines()
        if lines is None:
            process.over = True
            self._troubles.append(f"process {process.rank} of {self.size} is gone")
        for line in lines or ():
            if process.rank < 0:
                hello = HELLOS.validate_json(line)
                process.rank, process.pid = hello.rank, hello.pid
                continue
            answer = ANSWERS.validate_json(line)
            if answer.failed == "error":
                self._troubles.append(f"process {process.rank} of {self.size}: {answer.said}")
            found[process.rank] = answer

    def _heard(self) -> Iterator[Process]:
        """Processes that have something to say, within a moment; who is new is let in."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._door, selectors.EVENT_READ)
            for process in self._processes:
                if not process.over:
                    selector.register(process.link, selectors.EVENT_READ, process)
            for key, _ in selector.select(0.2):
                if isinstance(key.data, Process):
                    yield key.data
                else:
                    self._processes.append(Process(self._door.accept()[0]))

    def _fail(self, asked: str, found: dict[int, Answer]) -> NoReturn:
        """End the group, and say why: what befell its processes, and the end of their log."""
        until = time.monotonic() + LATE
        while time.monotonic() < until and self._launcher.poll() is None:
            for process in self._heard():  # one lost takes others along: which was first is told
                self._listen(process, found)
        self.close()
        with self.launch.log.open("rb") as log:
            log.seek(self._logged)
            last = log.read().decode(errors="replace").splitlines()[-QUOTED:]
        reason = "; ".join(dict.fromkeys(self._troubles))
        quoted = "\n".join(f"  | {line}" for line in last)
        raise GroupFailed(
            f"the learner, asked to {asked}: {reason}\n{self.launch.log} ends:\n{quoted}"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise GroupFailed("the learner's processes have been ended")

    def _wait(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._launcher.wait(seconds)


def agreed(found: Mapping[int, Answer]) -> Answer | None:
    """What all processes answer alike, or the first whose disk is full: that changes nothing, so it
    may be so for one alone. None where they have come apart."""
    answers = [found[rank] for rank in sorted(found)]
    full = [answer for answer in answers if answer.failed == "full"]
    if full:
        return full[0]
    return answers[0] if all(answer == answers[0] for answer in answers) else None
