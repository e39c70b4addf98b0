"""The suite runs in two processes of one thread each: more would wait on one another."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that neither process waits for the other at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
