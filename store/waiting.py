"""What the store waits for instead of failing: a database that is locked, restarting or gone."""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

from store.errors import Unreachable

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between tries, doubling
SAY_AFTER = 3.0  # seconds of waiting that nobody needs to hear of
_PASSING = {
    "25P03",  # ended for being idle inside a transaction
    "53300",  # no connection is free
    "55P03",  # waited for a lock as long as it may
    "57014",  # cancelled, most often for the statement's time limit
    "57P01",  # shut down by the administrator
    "57P02",  # another process of the server crashed
    "57P03",  # starting up or shutting down
    "57P05",  # ended for being idle
}
# a refused connection carries no code; these refusals stay whatever one waits for
_FOR_GOOD = re.compile(
    r"does not exist|authentication failed|no password supplied|no pg_hba\.conf entry"
    r"|certificate|not permitted to log in|permission denied"
)


def silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the store waits before it gives up, and who hears of it.

    seconds  for a database that is locked, refuses connections or broke one, from the first
             failure of a piece of work to the last; 0 fails at once
    silence  for PostgreSQL's answer to one statement; a server that is mute for longer counts as
             gone, and its connection is given up
    say      told in one line once a wait lasts, and when it is over
    """

    seconds: float = 120.0
    silence: float = 300.0
    say: Callable[[str], None] = silent

    def through(self, attempt: Callable[[], T], place: str) -> T:
        """Try until it succeeds. `attempt` begins anew each time, and finds its own outcome.

        place  the database's address as a person may read it: without a password
        Raises Unreachable past the patience, and at once whatever waiting cannot mend.
        """
        before = sys.exception()  # what the caller is on its way out of is no news
        began: float | None = None
        pause, said = FIRST_PAUSE, False
        while True:
            try:
                result = attempt()
            except DBAPIError as error:
                _let_interrupts_pass(error, before)
                if not may_pass(error):
                    raise
                began = began or time.monotonic()
                left = began + self.seconds - time.monotonic()
                if left <= 0:
                    raise Unreachable(_told(place, self.seconds, error)) from error
                if not said and self.seconds - left > SAY_AFTER:
                    said = True
                    self.say(f"waiting for the store at {place}, {left:.0f} s more: {_line(error)}")
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if said and began is not None:
                    waited = time.monotonic() - began
                    self.say(f"the store answers again after {waited:.0f} s")
                return result


def may_pass(error: DBAPIError) -> bool:
    """Whether the same work may succeed later: the database is locked, restarting or out of reach,
    or the connection to it broke."""
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", 0)  # an error of the module's own has none
        return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = sqlstate(error)
    if state is None:
        return isinstance(error, OperationalError) and not _FOR_GOOD.search(str(error.orig))
    return state in _PASSING or state.startswith("08")


def sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's code of an error; None where there is none, as of a refused connection."""
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _let_interrupts_pass(error: BaseException, before: BaseException | None) -> None:
    """Raise the interrupt during whose roll-back this error came, if there was one.

    before  what was handled already when the work began: neither it nor its causes are meant
    """
    cause = error.__context__
    while cause is not None and cause is not before:
        if isinstance(cause, KeyboardInterrupt):
            raise cause
        cause = cause.__context__


def _told(place: str, seconds: float, error: DBAPIError) -> str:
    return f"the store at {place} was out of reach for {seconds:.0f} s: {_line(error)}"


def _line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
