"""The same sums every time, in every process that trains."""

from __future__ import annotations

import os

import torch


def repeat_exactly() -> None:
    """Have torch choose the same sums every time, so that a step taken again gives the same bits.

    With two threads or more the gradient of an embedding or of picked rows is otherwise added up
    in whatever order the threads arrive. On a GPU what has no such kernel only warns.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # nothing here reads memory it has not written; torch leaves the setting untyped
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
