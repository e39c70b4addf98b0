"""A Prefect server that stays: whether one is named, and what is said where it does not answer.

Importing this module imports Prefect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL

from flows.errors import Refusal
from flows.evolve import AWAY


def refuse_without_server() -> None:
    """Refuse where Prefect knows of no server; a temporary one would end with this command."""
    if not PREFECT_API_URL.value():
        raise Refusal(
            "no Prefect server is named, and a deployment needs one that stays",
            remedy="start one with `prefect server start`, then say where it is: "
            "export PREFECT_API_URL=http://127.0.0.1:4200/api",
        )


@contextmanager
def reaching() -> Iterator[None]:
    """In this block what a server answers wrongly, or not at all, is one clear refusal."""
    try:
        yield
    except (*AWAY, RuntimeError) as error:  # RuntimeError is what opening a client raises
        raise Refusal(
            _bare(f"Prefect's server at {PREFECT_API_URL.value()} cannot be used: {error}"),
            remedy="is it running, and may you? `prefect server start` starts one",
        ) from error


def _bare(text: str) -> str:
    """The text without the user and password that the server's address may hold."""
    user, at, _ = urlsplit(PREFECT_API_URL.value() or "").netloc.rpartition("@")
    return text.replace(user + at, "") if at else text
