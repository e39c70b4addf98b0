"""Tensors into a file, and a disk that takes no more told as what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_NUMBER = re.compile(r"\(os error (\d+)\)")


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors of any device as safetensors.

    Raises OSError with its number where the disk refuses, so that a full one can be waited for.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(held, file)
    except SafetensorError as error:
        raise of_disk(error, file) or error from error


def of_disk(error: SafetensorError, file: Path) -> OSError | None:
    """The operating system's own error, which safetensors tells in words alone; None for another.

    "Error while serializing: I/O error: No space left on device (os error 28)" -> errno.ENOSPC
    """
    found = _NUMBER.search(str(error))
    if found is None:
        return None
    number = int(found[1])
    return OSError(number, os.strerror(number), str(file))
