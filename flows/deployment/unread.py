"""A flow outlives whoever reads what it prints: its worker may be killed, and the climb goes on.

Importing this module imports Prefect.
"""

from __future__ import annotations

import io
import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

from prefect.logging.handlers import PrefectConsoleHandler


class Unread(io.TextIOBase):
    """A stream whose reader may go: what is written then goes nowhere.

    Without it rich ends the process at its next line (`Console.on_broken_pipe`), and `print` raises
    wherever it stands.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(BrokenPipeError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self.stream.isatty()


def outlive_reader() -> None:
    """Have this process write as to `Unread` from now on, Prefect's log included."""
    if isinstance(sys.stderr, Unread):
        return
    sys.stdout, sys.stderr = Unread(sys.stdout), Unread(sys.stderr)
    names = ["", *logging.root.manager.loggerDict]
    handlers = (one for name in names for one in logging.getLogger(name).handlers)
    for handler in handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.console.file = cast(TextIO, sys.stderr)
