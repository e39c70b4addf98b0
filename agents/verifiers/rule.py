"""The meter "rule": does the answer say what the reference says, by text and by mathematics.

math-verify answers in a process of its own that can be killed. A comparison that takes too long is
a status, never a 0: arithmetic such as 9^9^9 does not end, and a library that calls it different
teaches that it is wrong.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Literal

from pipeline.answers import matches_any
from pipeline.types import Group, Reading, Task, Transcript

CHILD = Path(__file__).with_name("math_child.py")
LIBRARIES = ("math-verify", "latex2sympy2_extended", "sympy")
START = 120.0  # seconds until the child must be ready; it takes one where nothing else runs
GRACE = 2.0  # seconds after the deadline at which a child without a parent ends itself

Verdict = Literal["yes", "no", "error", "timeout"]
WORDS: dict[str | None, Verdict] = {"yes": "yes", "no": "no", None: "timeout"}  # what is read


@cache
def libraries() -> str:
    """The versions on which a verdict depends."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


@dataclass(slots=True, weakref_slot=True)
class MathChild:
    """One process that compares, started when first asked and again after each kill.

    deadline  seconds that one comparison may take; its child is then killed
    timeouts  comparisons that were killed
    starts    processes begun
    """

    deadline: float = 5.0
    program: Path = CHILD
    timeouts: int = 0
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _end: weakref.finalize[[subprocess.Popen[bytes]], MathChild] | None = None

    def same(self, reference: str, answer: str) -> Verdict:
        """Whether mathematics calls them equal; "error" where the child could not tell.

        Raises RuntimeError where no child can be started.
        """
        process = self._process
        if process is None or process.poll() is not None:
            self.close()
            process = self._start()
        asked = json.dumps([self.deadline + GRACE, reference, answer])
        try:
            _pipe(process.stdin).write(asked.encode() + b"\n")
            _pipe(process.stdin).flush()
            told = _line(process, self.deadline)
        except BrokenPipeError:
            told = ""
        verdict = WORDS.get(told, "error")  # or it died of the comparison
        if told not in ("yes", "no", "error"):
            self.close()
        self.timeouts += verdict == "timeout"
        return verdict

    def close(self) -> None:
        """End the child, whatever it does; the next question starts another."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _start(self) -> subprocess.Popen[bytes]:
        # a new interpreter, not a fork: torch's threads would not live in one. A session of its
        # own, so that Ctrl-C reaches the parent alone; -P, so that this folder hides no library
        process = subprocess.Popen(
            [sys.executable, "-P", str(self.program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.starts += 1
        self._process, self._end = process, weakref.finalize(self, _stop, process)
        if _line(process, START) != "ready":
            self.close()
            raise RuntimeError(
                f"the process of math-verify did not start (code {process.returncode}); "
                f"`{sys.executable} -P {self.program}` says why"
            )
        return process


@dataclass(slots=True)
class Rule:
    """Fills the Meter port: values are (exact, normalised, math), each 0.0 or 1.0.

    exact       equal but for surrounding white space
    normalised  `pipeline.answers.matches_any`
    math        equal to math-verify, or by one of the two before; known false accepts are
                10 | 10%, 90 degrees | 90, {1, 2} | (1, 2) and units left out

    Of several references one is enough. Status "timeout" where mathematics took too long,
    "score_error" where it could not be done, "not_measured" for a task without a reference. A
    verdict is kept for its pair of texts.
    """

    child: MathChild = field(default_factory=MathChild)
    known: dict[tuple[str, str, str], Verdict] = field(default_factory=dict)
    source: str = field(default="rule", init=False)

    @property
    def version(self) -> str:
        return libraries()

    @property
    def timeouts(self) -> int:
        """Comparisons that were killed."""
        return self.child.timeouts

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """A reading of each rollout, in order."""
        return [tuple(self._one(group.task, t) for t in group.transcripts) for group in groups]

    def close(self) -> None:
        """End the child process."""
        self.child.close()

    def _one(self, task: Task, transcript: Transcript) -> Reading:
        if transcript.form != "ok":
            return Reading("rule", self.version, "malformed", detail=transcript.form)
        if not task.reference.strip():
            return Reading("rule", self.version, "not_measured", detail="no reference")
        answer = transcript.final
        exact = any(answer.strip() == reference.strip() for reference in task.references)
        normalised = matches_any(answer, task.references)
        verdict = "yes" if exact or normalised else self._best(task.references, answer)
        if verdict == "timeout":
            told = f"not compared within {self.child.deadline:g} s"
            return Reading("rule", self.version, "timeout", detail=told)
        if verdict == "error":
            told = "the comparison ran out of memory or stack"
            return Reading("rule", self.version, "score_error", detail=told)
        values = (float(exact), float(normalised), float(verdict == "yes"))
        return Reading("rule", self.version, "measured", values)

    def _best(self, references: Sequence[str], answer: str) -> Verdict:
        """What mathematics says of the answer: "yes" where one reference agrees, and "no" only
        where all could be compared."""
        verdicts = [self._verdict(reference, answer) for reference in references]
        worst: tuple[Verdict, ...] = ("yes", "timeout", "error")
        return next((one for one in worst if one in verdicts), "no")

    def _verdict(self, reference: str, answer: str) -> Verdict:
        key = (reference, answer, self.version)
        verdict = self.known.get(key) or self.child.same(reference, answer)
        if verdict != "error":  # memory may be there the next time
            self.known[key] = verdict
        return verdict


def _line(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """The child's next line; "" where it ended, None where it said nothing in time."""
    until, told = time.monotonic() + seconds, b""
    file = _pipe(process.stdout).fileno()
    with selectors.DefaultSelector() as ready:
        ready.register(file, selectors.EVENT_READ)
        while not told.endswith(b"\n"):
            if not ready.select(max(until - time.monotonic(), 0.0)):
                return None
            more = os.read(file, 4096)
            if not more:
                return ""
            told += more
    return told.decode("ascii").strip()


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    if end is None:
        raise RuntimeError("the child has no pipe")
    return end


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the child, reap it, and let its pipes go."""
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stdin):
        try:
            _pipe(pipe).close()
        except BrokenPipeError:
            continue  # a question that it died of was still on its way
