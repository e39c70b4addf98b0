"""What happens to signals while a run winds down."""

from __future__ import annotations

import signal

import pytest

from flows.owning import deaf


def fill() -> None:
    """Wind down as far as a full disk allows."""
    with deaf():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        raise OSError("the disk is full")


def test_whoever_was_deaf_hears_again_also_after_an_exception() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(OSError, match="full"):
            fill()
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)
