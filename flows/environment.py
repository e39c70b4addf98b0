"""What this program runs on: versions and machine, for a run's row and for `doctor`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from pydantic import JsonValue

PACKAGES = (
    "coclimb",
    "torch",
    "transformers",
    "accelerate",
    "prefect",
    "sqlalchemy",
    "safetensors",
    "pydantic",
    "numpy",
)
EXTRAS = {"vllm": "vllm", "psycopg": "postgres", "peft": "lora", "s3fs": "s3", "trl": "test"}


def installed(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def snapshot(threads: int) -> dict[str, JsonValue]:
    """Versions and machine, with nothing that names a person, a path or a secret.

    threads  that torch computes with: figures repeat to the last bit only where it is the same
    """
    versions: dict[str, JsonValue] = {name: installed(name) for name in (*PACKAGES, *EXTRAS)}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": versions,
    }
