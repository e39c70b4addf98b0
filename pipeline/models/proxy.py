"""The slower copy of the policy, and the engine that scores with it.

Sync is proxy <- alpha * proxy + (1 - alpha) * policy, NOVER's convention (arXiv 2505.16022): alpha
weights the OLD proxy. TRL's option of the same name weights the new policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from torch import Tensor

from pipeline.files.saving import save_tensors
from pipeline.models.policy import fingerprint
from pipeline.types import Version

State = Mapping[str, Tensor]


class Loads(Protocol):
    """An engine as the proxy needs it: it takes weights, and they answer from then on."""

    def load(self, state: State, version: str) -> None: ...


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    parents: tuple[str, ...]
    checksum: str


@dataclass(frozen=True, slots=True)
class _Held:
    """Weights in float32 on the CPU, and their version."""

    state: dict[str, Tensor]
    version: Version


class WeightProxy:
    """Fills the Proxy and Saved ports.

    engine          scores under the proxy; reloaded by every sync, undo and restore
    policy          the policy's present weights by name; copied, never kept
    policy_version  their version

    It starts as an exact copy of the policy, "proxy@0".
    """

    def __init__(
        self, engine: Loads, policy: Callable[[], State], policy_version: Callable[[], Version]
    ) -> None:
        self._engine, self._policy, self._policy_version = engine, policy, policy_version
        self._before: _Held | None = None
        self._take(_copy(policy()), 0, (policy_version().id,))

    @property
    def version(self) -> Version:
        return self._held.version

    def sync(self, *, step: int, alpha: float) -> Version:
        """proxy <- alpha * proxy + (1 - alpha) * policy; alpha 0 copies exactly.

        Raises ValueError for an alpha outside [0, 1], or weights that do not fit or are not finite.
        """
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha is {alpha}; it is the old proxy's share, in [0, 1]")
        policy, old = _copy(self._policy()), self._held
        if _shapes(policy) != _shapes(old.state):
            raise ValueError(
                "policy and proxy differ in names or shapes; both must be the same base"
            )
        for name, weight in policy.items():
            if not bool(torch.isfinite(weight).all()):
                raise ValueError(
                    f"policy weight {name} is not finite; the proxy stays at {old.version.id}"
                )
            if alpha > 0.0:
                weight.mul_(1.0 - alpha).add_(old.state[name], alpha=alpha)
        self._take(policy, step, (old.version.id, self._policy_version().id))
        self._before = old
        return self.version

    def undo(self) -> None:
        """Put back the weights and version from before the last sync, once.

        Raises RuntimeError where there is no sync to undo, also right after `restore`.
        """
        if self._before is None:
            raise RuntimeError(f"{self.version.id}: there is no sync to undo")
        self._hold(self._before)
        self._before = None

    def save(self, folder: Path) -> None:
        """Write weights and version; what `undo` would put back is not kept."""
        save_tensors(self._held.state, folder / "proxy.safetensors")
        version = self.version
        saved = _Saved(step=version.step, parents=version.parents, checksum=version.checksum)
        (folder / "proxy.json").write_text(saved.model_dump_json(indent=1))

    def restore(self, folder: Path) -> None:
        """Read them back and reload the engine. Raises ValueError for weights of another model."""
        saved = _Saved.model_validate_json((folder / "proxy.json").read_text())
        state = load_file(folder / "proxy.safetensors")
        if _shapes(state) != _shapes(self._held.state):
            raise ValueError(f"{folder}: the proxy's weights belong to another model than this one")
        version = Version(f"proxy@{saved.step}", "proxy", saved.step, saved.parents, saved.checksum)
        self._before = None
        self._hold(_Held(state, version))

    def _take(self, state: dict[str, Tensor], step: int, parents: tuple[str, ...]) -> None:
        self._hold(
            _Held(state, Version(f"proxy@{step}", "proxy", step, parents, fingerprint(state)))
        )

    def _hold(self, held: _Held) -> None:
        self._engine.load(held.state, held.version.id)
        self._held = held


def _copy(state: State) -> dict[str, Tensor]:
    """Own float32 tensors on the CPU, none sharing memory with another."""
    return {
        name: x.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, x in state.items()
    }


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in state.items()}
