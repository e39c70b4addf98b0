"""The meter "rule": does the answer say what the reference says, by text and by mathematics.

math-verify answers in a process of its own that can be killed. A comparison that takes too long is
a status, never a 0: arithmetic such as 9^9^9 does not end, and a library that calls it different
teaches that it is wrong. What is too long is counted in the child's own processor time, and no
timeout outlives its reading: neither a busy machine nor what was asked before decides a verdict.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Literal

from pipeline.text.answers import matches_any
from pipeline.types import Group, Reading, Task, Transcript

CHILD = Path(__file__).with_name("math_child.py")
LIBRARIES = ("math-verify", "latex2sympy2_extended", "sympy")
START = 120.0  # seconds until the child must be ready; it takes one where nothing else runs
KEPT = 10_000  # verdicts kept, the last used
PATIENCE = 8  # timeouts in one reading, after which it asks nothing more

Verdict = Literal["yes", "no", "error", "timeout", "unasked"]
Pair = tuple[str, str]
WORDS: dict[str | None, Verdict] = {"yes": "yes", "no": "no", None: "timeout"}  # what is read


@cache
def libraries() -> str:
    """The versions on which a verdict depends."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


@dataclass(slots=True, weakref_slot=True)
class MathChild:
    """One process that compares, started when first asked and again after each kill.

    deadline  seconds of processor time that one comparison may take; its child then ends
    slack     times as many seconds of the clock, after which a child that did not end is killed
    timeouts  comparisons that were cut short
    starts    processes begun
    """

    deadline: float = 5.0
    slack: float = 12.0
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
        asked = json.dumps([self.deadline, reference, answer])
        try:
            _pipe(process.stdin).write(asked.encode() + b"\n")
            _pipe(process.stdin).flush()
            told = _line(process, self.slack * self.deadline)
        except BrokenPipeError:
            told = ""
        verdict = WORDS.get(told, "error")  # or it died of the comparison
        if told not in ("yes", "no", "error"):
            self.close()
            if process.returncode == -signal.SIGPROF:
                verdict = "timeout"
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
    """Whether the answer says what the reference says, by text and by mathematics.

    values  (exact, normalised, math), each 0 or 1; of several references one is enough
            exact       equal but for surrounding white space
            normalised  `pipeline.text.answers.matches_any`
            math        equal to math-verify, or by one of the two before; known false accepts are
                        10 | 10%, 90 degrees | 90, {1, 2} | (1, 2) and units left out
    status  "timeout" where mathematics took more than its seconds of processor time, and for every
            pair not compared yet once 8 of one reading had (not asked, so that a hang costs a
            bounded time); "score_error" where it ran out of memory or stack; "not_measured" for a
            task without a reference; "malformed" without two blocks

    No weights are asked; the version names the libraries. "yes" and "no" are kept for the last
    10,000 pairs. Source: math-verify (huggingface/Math-Verify).
    """

    child: MathChild = field(default_factory=MathChild)
    known: OrderedDict[Pair, Verdict] = field(default_factory=OrderedDict)
    kept: int = KEPT
    source: str = field(default="rule", init=False)

    @property
    def version(self) -> str:
        return libraries()

    @property
    def timeouts(self) -> int:
        """Comparisons that were cut short."""
        return self.child.timeouts

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """A reading of each rollout, in order."""
        told: dict[Pair, Verdict] = {}
        return [
            tuple(self._one(group.task, t, told) for t in group.transcripts) for group in groups
        ]

    def close(self) -> None:
        """End the child process."""
        self.child.close()

    def _one(self, task: Task, transcript: Transcript, told: dict[Pair, Verdict]) -> Reading:
        if transcript.form != "ok":
            return Reading("rule", self.version, "malformed", detail=transcript.form)
        if not task.reference.strip():
            return Reading("rule", self.version, "not_measured", detail="no reference")
        answer = transcript.final
        exact = any(answer.strip() == reference.strip() for reference in task.references)
        normalised = matches_any(answer, task.references)
        verdict = "yes" if exact or normalised else self._best(task.references, answer, told)
        if verdict == "timeout":
            why = f"not compared within {self.child.deadline:g} s of processor time"
            return Reading("rule", self.version, "timeout", detail=why)
        if verdict == "unasked":
            why = f"not asked: {PATIENCE} comparisons of this reading had timed out"
            return Reading("rule", self.version, "timeout", detail=why)
        if verdict == "error":
            why = "the comparison ran out of memory or stack"
            return Reading("rule", self.version, "score_error", detail=why)
        values = (float(exact), float(normalised), float(verdict == "yes"))
        return Reading("rule", self.version, "measured", values)

    def _best(self, references: Sequence[str], answer: str, told: dict[Pair, Verdict]) -> Verdict:
        """What mathematics says of the answer: "yes" where one reference agrees, and "no" only
        where all could be compared."""
        verdicts = [self._verdict((reference, answer), told) for reference in references]
        worst: tuple[Verdict, ...] = ("yes", "timeout", "unasked", "error")
        return next((one for one in worst if one in verdicts), "no")

    def _verdict(self, pair: Pair, told: dict[Pair, Verdict]) -> Verdict:
        """told: the verdicts of this reading. Once it has asked enough they alone answer, so that
        what an earlier reading kept does not decide which attempt is measured."""
        if pair not in told:
            if sum(verdict == "timeout" for verdict in told.values()) >= PATIENCE:
                return "unasked"
            told[pair] = self.known.get(pair) or self.child.same(*pair)
            if told[pair] in ("yes", "no"):  # time and memory may be there the next time
                self._keep(pair, told[pair])
        return told[pair]

    def _keep(self, pair: Pair, verdict: Verdict) -> None:
        self.known[pair] = verdict
        self.known.move_to_end(pair)
        while len(self.known) > self.kept:
            self.known.popitem(last=False)


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
