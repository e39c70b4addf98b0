"""Weights that other processes load: put where they see them, and read by their digest alone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.files.saving import save_tensors
from pipeline.files.shared import SharedFolder, sha256_of
from pipeline.items import WeightsFile

KEPT = 2  # newest versions of each line that stay though no item names them
_NAME = re.compile(r"(?P<line>[a-z]+)@(?P<step>\d+)-[0-9a-f]+\.safetensors")


@dataclass(frozen=True, slots=True)
class Format:
    """The number format in which an engine holds its weights.

    buffers  names that keep their own, as `policy.replica` leaves them
    """

    dtype: torch.dtype
    buffers: frozenset[str] = frozenset()

    def rounded(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy on the CPU in this format, none of it shared with the state's."""
        return {
            name: weight.detach()
            .to("cpu", weight.dtype if name in self.buffers else self.dtype, copy=True)
            .contiguous()
            for name, weight in state.items()
        }


class Published:
    """The published weights of one run, by version and digest.

    scratch  a local folder for a file on its way, emptied behind it
    """

    def __init__(self, folder: SharedFolder, run: str, scratch: Path) -> None:
        self._folder, self._place, self._scratch = folder, f"weights/{run}", scratch

    def put(self, state: Mapping[str, Tensor], version: str) -> WeightsFile:
        """Publish weights; equal ones under an equal version are the same file.

        One that is there already is written again: a process that died may have left it damaged.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        file = self._scratch / f"{version.partition('@')[0]}.safetensors"
        try:
            save_tensors(state, file)
            sha256 = sha256_of(file)
            name = f"{self._place}/{version}-{sha256[:16]}.safetensors"
            self._folder.put(name, file)
        finally:
            file.unlink(missing_ok=True)
        return WeightsFile(name, sha256, version)

    def prune(self, needed: Collection[str]) -> None:
        """Remove all but the files needed, by name, and the newest of each line.

        Also what a writer that was killed left on its way: only the run's owner may.
        """
        found = [
            (match["line"], int(match["step"]), name)
            for name in self._folder.names(self._place)
            if (match := _NAME.fullmatch(name.rsplit("/", 1)[-1]))
        ]
        lines = {line for line, _, _ in found}
        newest = {
            name
            for own in lines
            for _, name in sorted((step, name) for line, step, name in found if line == own)[-KEPT:]
        }
        for _, _, name in found:
            if name not in newest and name not in needed:
                self._folder.remove(name)
        self._sweep()

    def clear(self) -> None:
        """Remove all of them, and what is on its way; only the run's owner may."""
        for name in self._folder.names(self._place):
            self._folder.remove(name)
        self._sweep()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _sweep(self) -> None:
        for name in self._folder.remnants(self._place):
            self._folder.remove(name)


def fetch(folder: SharedFolder, weights: WeightsFile, to: Path) -> dict[str, Tensor]:
    """Published weights, whole as their digest names them; `to` is a local file, gone afterwards.

    Raises BadShared for a file that is missing or another.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.get(weights.name, to, weights.sha256)
        return load_file(to)
    finally:
        to.unlink(missing_ok=True)
