"""A program of its own, asked line by line, with a deadline for every answer.

It runs in a process group of its own and ends when its standard input does, so that it outlives
nobody; what it started is ended with it. Its standard error goes to a file, whose last lines are
told where it fails.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

GRACE = 3.0  # seconds a program has to end by itself once nobody asks any more
CHUNK = 2**16
FATAL = re.compile(r"\b\w*(Error|Exception|Killed)\b:")
TOLD, WIDTH = 5, 300  # lines of its own that a failure tells, and characters of each


class EngineFailed(RuntimeError):
    """A served engine ended, answered nothing in time, or answered what it was not asked."""


class Program:
    """A program that reads one line of JSON per message and writes one per answer.

    name  what failures call it
    log   file that its standard error goes to; it stays where the program failed

    Starts at once. Whatever fails raises EngineFailed and ends it, with all that it started; so
    does every later message.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        self._unread = b""
        self._failed, self._over, self._number = "", False, 0
        with log.open("wb") as errors:
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                    bufsize=0,
                )
            except OSError as error:
                raise EngineFailed(
                    f"{name} did not start: {error}; check engine.python, the interpreter of the "
                    "environment that has vLLM"
                ) from error
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)

    def tell(self, message: Mapping[str, object], until: float) -> int:
        """Write a message whole; the number that its answer carries.

        until  the deadline, on the monotonic clock
        """
        self._check()
        self._number += 1
        rest = memoryview(json.dumps({**message, "number": self._number}).encode() + b"\n")
        while rest:
            if not self._ready([], [self._stdin], until):
                raise self.failure("took no message in time", "engine.answer_seconds")
            try:
                rest = rest[os.write(self._stdin.fileno(), rest[:CHUNK]) :]
            except BrokenPipeError as error:
                raise self.failure(self._ended()) from error
        return self._number

    def answer(self, number: int, until: float, setting: str) -> dict[str, object]:
        """The answer of that number. setting: what to raise where the deadline is too short.

        Answers of earlier messages, whose askers were interrupted, are passed over.
        """
        self._check()
        while True:
            line = self._line(until, setting)
            try:
                told = json.loads(line)
            except ValueError as error:
                raise self.failure(f"answered what is no JSON ({line[:60]!r})") from error
            if not isinstance(told, dict) or not isinstance(told.get("number"), int):
                raise self.failure(f"answered what has no number ({line[:60]!r})")
            if told["number"] >= number:
                return told

    def close(self) -> None:
        """End it; no process of its group is left."""
        if not self._failed:
            self._failed = f"{self.name} is closed"
            self.log.unlink(missing_ok=True)
        self._end()
        self._stdout.close()

    def failure(self, found: str, setting: str = "") -> EngineFailed:
        """End it; what to raise, with its own last words."""
        self._end()
        said = "\n".join(f"  {line}" for line in last_words(self.log))
        remedy = f"raise {setting}, or see" if setting else "see"
        self._failed = f"{self.name} {found}" + (f"; it said:\n{said}" if said else "")
        self._failed += f"\n{remedy} {self.log} and `coclimb doctor --engine vllm`"
        return EngineFailed(self._failed)

    def _line(self, until: float, setting: str) -> bytes:
        parts = []
        while b"\n" not in self._unread:
            parts.append(self._unread)
            if not self._ready([self._stdout], [], until):
                raise self.failure("did not answer in time", setting)
            self._unread = os.read(self._stdout.fileno(), 2**20)
            if not self._unread:
                raise self.failure(self._ended())
        last, _, self._unread = self._unread.partition(b"\n")
        return b"".join([*parts, last])

    def _ready(self, reads: list[IO[bytes]], writes: list[IO[bytes]], until: float) -> bool:
        """Wait until a pipe is ready, looking now and then whether the program still lives."""
        while True:
            left = until - time.monotonic()
            readable, writable, _ = select.select(reads, writes, [], min(max(left, 0.0), 0.5))
            if readable or writable:
                return True
            if self.process.poll() is not None:  # a child of it may hold the pipe open
                raise self.failure(self._ended())
            if left <= 0:
                return False

    def _check(self) -> None:
        if self._failed:
            raise EngineFailed(self._failed)

    def _ended(self) -> str:
        try:
            code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def _end(self) -> None:
        """Let it end by itself with what it started, now that nobody asks; then insist."""
        if self._over:
            return
        self._over = True
        self._stdin.close()
        self._gone(GRACE)
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._gone(GRACE)

    def _gone(self, seconds: float) -> None:
        """Wait until nothing is left of the group, at most so long."""
        until = time.monotonic() + seconds
        while self._signal(0) and time.monotonic() < until:
            self.process.poll()
            time.sleep(0.02)

    def _signal(self, number: int) -> bool:
        """Send a signal to the group; False where nothing is left of it."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return False
        return True

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout


def last_words(log: Path) -> list[str]:
    """The last error with what follows it, after earlier errors, which may be its cause."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    naming = [place for place, line in enumerate(lines) if FATAL.search(line)]
    if not naming:
        return [line[:WIDTH] for line in lines[-TOLD:]]
    last = lines[naming[-1] :][:TOLD]
    causes = list(dict.fromkeys(lines[place] for place in naming[:-1]))
    room = TOLD - len(last)
    return [line[:WIDTH] for line in (*causes[len(causes) - room :], *last)]
