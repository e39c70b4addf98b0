"""Real tasks for tests of the import: four files that are no part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "COCLIMB_REAL_DATA"
FOLDER = Path(
    os.environ.get(VARIABLE) or Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
)
FILES = ("nr", "webit", "emobench", "tombench")

needs_real_data = pytest.mark.skipif(
    not all((FOLDER / f"{name}.csv").is_file() for name in FILES),
    reason=f"the files {', '.join(FILES)} of thinkwee/NOVER are not in {FOLDER}; {VARIABLE} names "
    "another folder",
)


def real(name: str) -> Path:
    """The file of that name."""
    return (FOLDER / f"{name}.csv").resolve()
