"""Names of work queues, and what of a machine each may use."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flows.errors import Refusal

GPU = re.compile(r"(?:^|-)gpu-(\d+)$")
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def devices(queue: str) -> dict[str, str]:
    """The environment that keeps a queue to its GPU: `gpu-3` or `node7-gpu-3` to the fourth."""
    found = GPU.search(queue)
    return {VISIBLE: found.group(1)} if found else {}


def queues_of(gpus: int, machines: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """One queue per GPU: of every machine where they are named, or those given by name.

    Raises Refusal for both at once, for a name twice, and for one that Prefect does not take.
    """
    if named and (gpus or machines):
        raise Refusal("--queues names every queue, and --gpus counts them", remedy="give one")
    if machines and not gpus:
        raise Refusal("--machines needs --gpus, the number of GPUs of each")
    before = [f"{machine}-" for machine in machines] or [""]
    counted = [f"{name}gpu-{number}" for name in before for number in range(gpus)]
    found = tuple(named or counted)
    odd = [name for name in found if not PLAIN.fullmatch(name)]
    twice = sorted({name for name in found if found.count(name) > 1})
    if odd or twice:
        raise Refusal(
            "queues need names of their own, of letters, digits, dots, dashes and underscores",
            [*(f"{name!r} is none" for name in odd), *(f"{name} stands twice" for name in twice)],
        )
    return found
