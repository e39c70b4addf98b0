"""A claim that is renewed in the background while its item is worked out."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LEAVING = 5.0  # seconds that a renewal under way is waited for; whatever comes of it, it is late


@contextmanager
def renewing(renew: Callable[[], bool], every: float, longest: float = math.inf) -> Iterator[None]:
    """In this block `renew` is called every so many seconds, until it says that all is lost.

    renew    called in a thread of its own; must not raise
    longest  seconds after which it is called no more, though the block goes on
    """
    done, end = threading.Event(), time.monotonic() + longest

    def beat() -> None:
        while not done.wait(every) and time.monotonic() < end and renew():
            pass

    thread = threading.Thread(target=beat, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LEAVING)
