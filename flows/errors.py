"""What a person is told when something cannot be done: what came, what was expected, what next.

Known exceptions are told by the names of their classes, so that this module imports none of the
rooms they come from and a mistyped command still answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

REFUSED, FAILED, INTERRUPTED = 2, 1, 130

# class name -> exit code and the next move; the message of the exception says what came
KNOWN: dict[str, tuple[int, str]] = {
    "store.errors.NewerSchema": (REFUSED, ""),
    "store.errors.Unknown": (REFUSED, ""),
    "store.errors.Owned": (REFUSED, ""),
    "store.errors.LostLease": (FAILED, "another process goes on with this run; leave it to it"),
    "store.errors.Conflict": (
        FAILED,
        "the run now does something else than it did before: code, libraries or data changed; "
        "go on where they are as they were, or fork the run",
    ),
    "store.errors.Unreachable": (
        FAILED,
        "nothing committed was lost; bring the database back and `coclimb resume RUN` goes on",
    ),
    "store.errors.StoreError": (FAILED, ""),
    "pipeline.files.checkpoint.BadCheckpoint": (REFUSED, ""),
    "pipeline.files.shared.BadShared": (
        FAILED,
        "put the file back as it was, or fork an earlier round",
    ),
    "pipeline.files.shared.Unanswered": (
        FAILED,
        "is its address right, are its credentials in the environment, does it answer? Nothing "
        "committed was lost; `coclimb resume` goes on",
    ),
    "pipeline.models.folder.BadModel": (REFUSED, ""),
    "pipeline.environments.table.TooFewRows": (REFUSED, ""),
    "pipeline.rewards.checks.Contradiction": (REFUSED, ""),
    "pipeline.ports.NonFinite": (
        FAILED,
        "nothing was changed by this step; fork an earlier round at a tenth of this run's step "
        "size: coclimb fork RUN --round N --set learner.learning_rate=RATE (what a run takes "
        "where none is set stands in the file of `coclimb init`)",
    ),
    "pipeline.engine.parity.EngineMismatch": (FAILED, ""),
    "pipeline.engine.process.EngineFailed": (
        FAILED,
        "nothing committed was lost; `coclimb resume` goes on",
    ),
    "pipeline.engine.served.NotServed": (REFUSED, ""),
    "pipeline.learning.launch.group.GroupFailed": (
        FAILED,
        "nothing committed was lost; `coclimb resume` goes on",
    ),
    "flows.restore.Diverged": (REFUSED, ""),
    "sqlalchemy.exc.DBAPIError": (FAILED, "is the store reachable? `coclimb doctor` looks"),
    "torch.OutOfMemoryError": (
        FAILED,
        "lower learner.token_budget; the gradient stays the same, so `coclimb resume` may follow",
    ),
    "builtins.OSError": (FAILED, "nothing committed was lost; `coclimb resume` goes on"),
}


class Refusal(Exception):
    """A request that cannot be served, with every problem found in it.

    problems  one sentence each; shown as a list where there are several
    """

    def __init__(self, what: str, problems: Sequence[str] = (), remedy: str = "") -> None:
        self.what, self.problems, self.remedy = what, tuple(problems), remedy
        super().__init__(self.told())

    def told(self) -> str:
        """The whole message, on one screen."""
        lines = [self.what]
        lines += [f"  - {problem}" for problem in self.problems[:10]]
        if len(self.problems) > 10:
            lines.append(f"  ... and {len(self.problems) - 10} more")
        if self.remedy:
            lines.append(self.remedy)
        return "\n".join(lines)


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message for an exception that reached the command line."""
    if isinstance(error, Refusal):
        return REFUSED, error.told()
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, str(error) or "interrupted"
    for kind in type(error).__mro__:
        known = KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None:
            code, remedy = known
            return code, f"{_first_lines(error)}\n{remedy}".strip()
    name = type(error).__name__
    return FAILED, f"{name}: {_first_lines(error)}\nwith --debug the traceback is shown"


def _first_lines(error: BaseException) -> str:
    return "\n".join(str(error).splitlines()[:8]) or type(error).__name__


class Answering:
    """A with block at the edge of the program: whatever leaves it becomes a message and a code."""

    def __init__(self, *, debug: bool) -> None:
        self.debug = debug

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        code, message = explain(error)
        if self.debug:
            traceback.print_exception(error)
        print(f"coclimb: {printable(message)}", file=sys.stderr)
        raise SystemExit(code) from None


def aside(text: str) -> None:
    """Tell something beside what a command prints, on the error stream."""
    print(f"coclimb: {printable(text)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text with control characters made visible, so that no content steers the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
