"""What a probe asks, and who can tell the truth of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.config import GeneratorConfig, ProbeConfig
from pipeline.measures import clustered
from pipeline.types import Axis, Group, ProbeRecord, Task

DEEP = 3  # held-out tasks this deep or deeper stand beyond every seed


@dataclass(frozen=True, slots=True)
class ProbeItem:
    """A held-out task with its truth; never a Task of the run.

    family and depth are "" and 0 where the source names none; other_references are right too.
    """

    id: str
    question: str
    reference: str
    family: str = ""
    depth: int = 0
    other_references: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """Every answer that is right, the first first."""
        return (self.reference, *self.other_references)

    def bare(self) -> Task:
        """The question as the solver may see it, without its reference."""
        return Task(id=self.id, question=self.question, reference="", origin="human")


class Truth(Protocol):
    """What can be told of held-out tasks and of proposals."""

    @property
    def named(self) -> Sequence[str]:
        """Families whose references a weak verifier ranks poorly."""
        ...

    @property
    def reads(self) -> bool:
        """Whether `read` can tell a well-posed question from any other text."""
        ...

    def right(self, item: ProbeItem, answer: str) -> bool:
        """True where the answer is right."""
        ...

    def reasoned_right(self, item: ProbeItem, reasoning: str) -> bool | None:
        """True where the reasoning is right, whatever was answered; None where nothing can tell."""
        ...

    def read(self, question: str) -> ProbeItem | None:
        """The item a proposed question poses, with its truth; None where it poses none."""
        ...


@dataclass(frozen=True, slots=True)
class Exam:
    """The fixed sets of a run: the solver's items, the pool's tasks, the generator's parents."""

    items: tuple[ProbeItem, ...]
    pool_items: tuple[ProbeItem, ...]
    parents: tuple[Task, ...]
    truth: Truth
    config: ProbeConfig
    generator: GeneratorConfig


@dataclass(frozen=True, slots=True)
class PoolGroup:
    """Rollouts of one held-out task, frozen at the start, some right and some wrong.

    group  its task carries the reference
    right  [G]  whether each rollout's reasoning is right; all None where nothing can tell
    """

    item: ProbeItem
    group: Group
    right: tuple[bool | None, ...]


Values = Mapping[str, Sequence[float]]  # task id -> its values


def record(axis: Axis, name: str, where: str, values: Values, version: str) -> ProbeRecord:
    """One figure over clusters of values, with the mean of each cluster kept beside it."""
    per_task = tuple((key, sum(v) / len(v)) for key, v in values.items() if v)
    return ProbeRecord(axis, name, where, clustered(list(values.values())), version, per_task)


def slices(items: Sequence[ProbeItem]) -> list[tuple[str, list[ProbeItem]]]:
    """The named parts of a set: all, the deep ones, each family, each depth; two items or more."""
    parts = [("all", list(items)), (f"depth>={DEEP}", [i for i in items if i.depth >= DEEP])]
    parts += [
        (f"family={f}", [i for i in items if i.family == f])
        for f in sorted({i.family for i in items if i.family})
    ]
    parts += [
        (f"depth={d}", [i for i in items if i.depth == d])
        for d in sorted({i.depth for i in items if i.depth})
    ]
    return [(name, part) for name, part in parts if len(part) > 1]
