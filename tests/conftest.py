"""The suite runs in two processes of one thread each: more would wait on one another."""

import os
import secrets
from collections.abc import Iterator

import fsspec
import pytest

from tests.object_store import served

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that neither process waits for the other at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The endpoint of an object store on this machine, with the environment set for it."""
    with served() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(object_store: str) -> str:
    """The URL of a bucket of the test's own."""
    name = f"bucket-{secrets.token_hex(4)}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return f"s3://{name}"
