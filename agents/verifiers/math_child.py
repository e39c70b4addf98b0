"""The program of the process that asks math-verify: run by its path, never imported.

A line of JSON in, [seconds, reference, answer]; a word out: "yes", "no" or "error" where the
comparison ran out of memory or stack, which the library itself would call different. "ready" is
the first word. The library's own alarms are off: they would call a comparison that was cut short
different too. The seconds are of processor time, so that a busy machine changes no verdict: the
process has no handler for SIGPROF and ends by it, inside any C loop, whether or not whoever asked
is still there. It ends with its input too.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys

from math_verify import parse, verify

MEMORY = 4 << 30  # bytes of address space; 10^10^10 would take as many for one number
STARVED = (MemoryError, RecursionError)


class Ear(logging.Handler):
    """Hears which exceptions the library took for an answer."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.starved = False

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0]:
            self.starved |= issubclass(record.exc_info[0], STARVED)


def in_math(text: str) -> str:
    """A bare text between dollars: the library reads LaTeX only inside a math environment."""
    marked = any(sign in text for sign in ("$", r"\boxed", r"\(", r"\[", r"\begin{equation"))
    return text if marked else f"${text}$"


def same(reference: str, answer: str) -> bool:
    """math-verify's verdict, the reference first: the order matters to it.

    An answer is read as it stands ("about 10 cm"), and one with LaTeX's signs as mathematics too.
    """
    expected = parse(in_math(reference), parsing_timeout=None)
    latex = any(sign in answer for sign in "\\^_{")
    told = dict.fromkeys([in_math(answer), answer] if latex else [answer])
    return any(
        verify(expected, parse(text, parsing_timeout=None), timeout_seconds=None) for text in told
    )


def serve() -> None:
    """Answer line by line until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    words = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what a library prints must not be taken for a word
    logging.getLogger("sympy").setLevel(logging.CRITICAL)
    ear, log = Ear(), logging.getLogger("math_verify")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(ear)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # a parent that ignores it hands that on
    same("1", "2")  # what is loaded at first use
    words.write("ready\n")
    for line in sys.stdin:
        seconds, reference, answer = json.loads(line)
        ear.starved = False
        signal.setitimer(signal.ITIMER_PROF, seconds)
        verdict = same(reference, answer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        words.write("error\n" if ear.starved and not verdict else "yes\n" if verdict else "no\n")


if __name__ == "__main__":
    serve()
