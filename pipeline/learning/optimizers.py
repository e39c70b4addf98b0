"""AdamW by its name in the configuration, and its moments as tensors that a file can hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from pipeline.config import RunConfig

Moments = dict[str, Tensor]  # of one weight, by kind
Weights = Sequence[Tensor]


class Optimizer(Protocol):
    """Moves weights along their gradients, and tells what it remembers of each."""

    def step(self, size: float) -> None:
        """Move every weight that has a gradient, by this step size."""
        ...

    def moments(self, weight: Tensor) -> Moments:
        """What is kept of a weight; {} before its first step."""
        ...

    def check(self, kinds: Collection[str]) -> None:
        """Raises ValueError for kinds of moments that another optimiser keeps."""
        ...

    def put(self, weight: Tensor, moments: Mapping[str, Tensor]) -> None:
        """Go on from these moments of a weight, and from none where there are none."""
        ...


class Adam:
    """torch's AdamW, whose moments lie as their weights do."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    def step(self, size: float) -> None:
        for group in self.inner.param_groups:
            group["lr"] = size
        self.inner.step()

    def moments(self, weight: Tensor) -> Moments:
        return dict(self.inner.state.get(weight, {}))

    def check(self, kinds: Collection[str]) -> None:
        own = {"step", "exp_avg", "exp_avg_sq"}
        if not own.issuperset(kinds):
            raise _foreign(kinds, own)

    def put(self, weight: Tensor, moments: Mapping[str, Tensor]) -> None:
        self.inner.state.pop(weight, None)
        if moments:
            self.inner.state[weight] = dict(moments)


class Stateful(Protocol):
    """What a bitsandbytes optimiser is asked for beyond torch's."""

    param_groups: list[dict[str, object]]
    state: dict[Tensor, dict[str, Tensor | int]]

    def step(self) -> object: ...

    def init_state(
        self, group: dict[str, object], p: Tensor, gindex: int, pindex: int
    ) -> object: ...


class EightBit:
    """bitsandbytes' AdamW with moments in 8 bits (arXiv 2110.02861), as it is or paged.

    The maps from 8 bits to numbers are its constants: made anew with a state, and not kept. A
    state is made by its own `init_state`, in memory that the GPU's driver may page, then filled.
    """

    def __init__(self, inner: Stateful) -> None:
        self.inner = inner

    def step(self, size: float) -> None:
        for group in self.inner.param_groups:
            group["lr"] = size
        self.inner.step()

    def moments(self, weight: Tensor) -> Moments:
        held = self.inner.state.get(weight, {})
        return {
            kind: value if isinstance(value, Tensor) else torch.tensor(value)
            for kind, value in held.items()
            if not kind.startswith("qmap")
        }

    def check(self, kinds: Collection[str]) -> None:
        own = {"step", "state1", "state2", "absmax1", "absmax2"}
        if not own.issuperset(kinds):
            raise _foreign(kinds, own)

    def put(self, weight: Tensor, moments: Mapping[str, Tensor]) -> None:
        self.inner.state.pop(weight, None)
        if not moments:
            return
        group = self.inner.param_groups[0]
        place = [id(one) for one in _weights(group)].index(id(weight))
        self.inner.state[weight] = {}
        self.inner.init_state(group, weight, 0, place)
        made = self.inner.state[weight]
        if (kept := made.keys() - {"qmap1", "qmap2"}) != moments.keys():
            raise _foreign(moments, kept)  # of a weight that was kept in 32 bits, or is now
        for kind, value in moments.items():
            own = made[kind]
            if isinstance(own, Tensor):
                own.copy_(value)
            else:
                made[kind] = int(value)


def _foreign(found: Collection[str], kept: Collection[str]) -> ValueError:
    return ValueError(
        f"the moments {sorted(found)} were not written by this optimiser, which keeps "
        f"{sorted(kept)}; set learner.optimizer to the one that wrote them"
    )


def _weights(group: dict[str, object]) -> list[Tensor]:
    found = group["params"]
    return found if isinstance(found, list) else []


def _adamw(weights: Weights, config: RunConfig) -> Adam:
    asked = config.learner
    inner = torch.optim.AdamW(
        list(weights),
        lr=config.peak_rate,
        betas=asked.betas,
        weight_decay=asked.weight_decay,
        fused=True,
    )
    return Adam(inner)


def _eight_bit(weights: Weights, config: RunConfig) -> EightBit:
    """Raises ValueError where bitsandbytes is missing, or the weights are on no GPU."""
    asked = config.learner
    places = sorted({weight.device.type for weight in weights})
    if places != ["cuda"]:
        raise ValueError(
            f"learner.optimizer {asked.optimizer!r} needs weights on a GPU, and these are on "
            f"{', '.join(places)}; use learner.optimizer=adamw"
        )
    try:
        from bitsandbytes import optim  # noqa: PLC0415 - optional, and needs a GPU
    except ModuleNotFoundError as error:
        raise ValueError(
            f"learner.optimizer {asked.optimizer!r} needs bitsandbytes; "
            "pip install 'coclimb[eight_bit]'"
        ) from error
    made = optim.PagedAdamW8bit if asked.optimizer == "paged_adamw_8bit" else optim.AdamW8bit
    return EightBit(
        made(list(weights), lr=config.peak_rate, betas=asked.betas, weight_decay=asked.weight_decay)
    )


OPTIMIZERS: dict[str, Callable[[Weights, RunConfig], Optimizer]] = {
    "adamw": _adamw,
    "adamw_8bit": _eight_bit,
    "paged_adamw_8bit": _eight_bit,
}
