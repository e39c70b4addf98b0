"""A verifier with meters beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.ports import Consensus, Meter, Verifier
from pipeline.types import Evidence, Group


@dataclass(frozen=True, slots=True)
class Panel:
    """Fills the Verifier port: the inner verifier's evidence with the meters' readings attached.

    Without meters it answers as the inner verifier does, with the very same evidence. Raises
    ValueError where two meters have one source.
    """

    inner: Verifier
    meters: Sequence[Meter] = ()

    def __post_init__(self) -> None:
        sources = [meter.source for meter in self.meters]
        if len(set(sources)) < len(sources):
            raise ValueError(f"meters share a source: {', '.join(sorted(sources))}")

    @property
    def version(self) -> str:
        return self.inner.version

    def measure(self, groups: Sequence[Group]) -> list[tuple[Evidence, ...]]:
        """The inner evidence of each rollout, its readings in the order of the meters."""
        measured = self.inner.measure(groups)
        for meter in self.meters:
            measured = [
                tuple(
                    replace(one, readings=(*one.readings, reading))
                    for one, reading in zip(row, readings, strict=True)
                )
                for row, readings in zip(measured, meter.read(groups), strict=True)
            ]
        return measured

    def agree(self, groups: Sequence[Group]) -> list[Consensus]:
        """The inner verifier's."""
        return self.inner.agree(groups)

    def forget(self) -> None:
        """Drop what the inner verifier kept.

        Meters are not asked to. What one keeps may only save work: a pass over completions, which
        answers none but the very groups it read, or verdicts that would be the same if asked anew.
        """
        self.inner.forget()
