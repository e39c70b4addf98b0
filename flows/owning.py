"""A run is owned while it works, and every way out of it leaves a status and a reason.

One owner per run: a lease that a background thread renews. Ctrl-C and SIGTERM become one
exception, raised once; while the run winds down further signals wait.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

from sqlalchemy.exc import DBAPIError

from pipeline.files.shared import Unanswered
from store.database import Lease, Store
from store.errors import LostLease, StoreError, Unreachable
from store.leases import acquire_lease, release_lease, renew_lease
from store.ledger import finish

TTL = 120.0  # seconds a lease outlives its last renewal
SOON = 5.0  # seconds after which a renewal that failed is tried again
LEAVING = 10.0  # seconds that a way out waits for the store
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop. Its text says by what."""


class Owning:
    """A with block in which this process alone writes to a run.

    On the way out the run's status says how it stands: as the block left it, "stopped" where it
    was interrupted, "paused" where the disk is full, the shared folder does not answer or the store
    stayed out of reach, "failed" for any other exception, which goes on to the caller. Where
    another owns the run by then, its status is that owner's, and any failure becomes LostLease.
    """

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.run = store, run
        self._done = threading.Event()
        self._beat = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """Own the run. Raises Owned where another living process does."""
        owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.lease = acquire_lease(self.store, self.run, owner, TTL)
        self._beat.start()
        return self.lease

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with deaf():
                self._let_go(error)
        except LostLease as lost:
            if isinstance(error, Exception) and not isinstance(error, LostLease):
                raise lost from error  # files that the next owner swept, say
        except (StoreError, DBAPIError):
            return  # the store itself may be what failed

    def _let_go(self, error: BaseException | None) -> None:
        self._done.set()
        self._beat.join(LEAVING)
        store = self.store.within(LEAVING)
        if error is not None:
            finish(store, self.lease, *outcome(error))
        release_lease(store, self.lease)

    def _renew(self) -> None:
        """Renew until done, also a lease that expired while nobody could reach the store; one that
        was taken over shows at the owner's next write."""
        store, pause = self.store.within(0), TTL / 4
        while not self._done.wait(pause):
            pause = SOON
            with suppress(StoreError, DBAPIError):
                renew_lease(store, self.lease, TTL)
                pause = TTL / 4


def outcome(error: BaseException) -> tuple[str, str]:
    """Status and reason for what ended a run early."""
    reason = f"{type(error).__name__}: {error}"[:2000]
    if isinstance(error, KeyboardInterrupt):
        return "stopped", str(error) or "interrupted"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "paused", f"disk: {reason}"
    if isinstance(error, Unreachable):
        return "paused", f"waiting:db: {error}"[:2000]
    if isinstance(error, Unanswered):
        return "paused", f"shared folder: {reason}"
    return "failed", reason


@contextmanager
def stoppable() -> Iterator[None]:
    """In this block Ctrl-C and SIGTERM raise Interrupted, once; afterwards all is as before."""
    before = [signal.getsignal(number) for number in _SIGNALS]
    listen()
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)


def listen() -> None:
    """Let the next Ctrl-C or SIGTERM raise Interrupted in the main thread."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def deaf() -> Iterator[None]:
    """In this block Ctrl-C and SIGTERM do nothing; only for what ends by itself in seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, signal.SIG_IGN) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    raise Interrupted(f"stopped by {name}")
