"""The processes that take one optimiser step together, and what they say to each other.

Gradients are summed over processes, never averaged: every loss is already divided by the
denominators of the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

PIECE = 2**26  # numbers that one collective adds up: 256 MB in float32


class Team:
    """This process, `rank` of `size`, counted from 0.

    Made by `alone` or `together`; every method is called by all processes in the same order.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def leads(self) -> bool:
        """Whether this process writes what all hold alike."""
        return self.rank == 0

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes, in place; all of one dtype, on one device."""
        if self.size == 1:
            return
        held: list[Tensor] = []
        count = 0
        for tensor in tensors:
            if held and count + tensor.numel() > PIECE:
                _add_piece(held)
                held, count = [], 0
            held.append(tensor)
            count += tensor.numel()
        if held:
            _add_piece(held)

    def hear(self, digest: str) -> str:
        """What process 0 says: a digest in hex, of the same length everywhere."""
        if self.size == 1:
            return digest
        said = torch.zeros(64, dtype=torch.uint8, device=self.device)
        if self.leads:
            said.copy_(torch.tensor(list(digest.encode("ascii")), dtype=torch.uint8))
        dist.broadcast(said, src=0)
        return bytes(said.tolist()).decode("ascii")


def alone(device: torch.device) -> Team:
    """One process. Raises ValueError where a launcher started several of this program."""
    started = Accelerator(cpu=device.type == "cpu", device_placement=False).num_processes
    if started > 1:
        raise ValueError(
            "the learner runs in one process; start it without a launcher, and set "
            "learner.processes for several"
        )
    return Team(0, 1, device)


def together(device: str) -> Team:
    """This process among those a launcher started; device "cpu", or "cuda" for a GPU each."""
    found = Accelerator(cpu=device == "cpu", device_placement=False)
    return Team(found.process_index, found.num_processes, found.device)


def _add_piece(tensors: Sequence[Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(summed.view_as(tensor))
