"""What the store refuses, each with its own name."""

from __future__ import annotations


class StoreError(RuntimeError):
    """Base of every refusal of the store."""


class Conflict(StoreError):
    """A row of this key is there with other content, or its stage is already closed."""


class OutOfOrder(StoreError):
    """A stage or step came before the one that must precede it."""


class Unknown(StoreError):
    """A run, task, version or checkpoint was named that no row holds."""


class NewerSchema(StoreError):
    """The store was written by a later version of this program."""


class Owned(StoreError):
    """Another living process owns the run."""


class LostLease(StoreError):
    """The lease was released or taken over; the write changed nothing."""


class Unfinished(StoreError):
    """A run cannot be called done before the rounds it was asked for are committed."""


class Unreachable(StoreError):
    """The database was locked, restarting or gone for longer than the store waits."""
