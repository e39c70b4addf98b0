"""One optimiser step as plain data: what goes through the models, and what it is divided by.

Planned once, by whoever holds the prompts; the processes that take the step read it and nothing
else, so all of them share its denominators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.batch import Plan, Row, Splice, plan, row_of
from pipeline.config import RunConfig
from pipeline.offline import OBJECTIVES, Offline, Pick
from pipeline.surrogates import EVERY_ROW, surrogate_of
from pipeline.types import Credited, Group, Judged, Line, Role


@dataclass(frozen=True, slots=True)
class Order:
    """A step of every line in training.

    plans  line -> role -> its share; a line none of whose roles trains is not in it
    """

    step: int
    plans: dict[Line, dict[Role, Plan]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """An offline step of the solver's line.

    rows    [R]  those that the objective takes
    values  [R]  what it reads of each: a reward or a sign
    dead         groups that gave no row
    """

    step: int
    rows: tuple[Row, ...]
    values: tuple[float, ...]
    dead: int = 0
    unspliced: int = 0

    @property
    def slots(self) -> int:
        """Tokens that carry loss."""
        return sum(len(row.at) + len(row.answer) for row in self.rows)


def order_of(
    credited: Sequence[Credited],
    config: RunConfig,
    splice: Splice,
    versions: Mapping[Line, str],
    *,
    step: int,
) -> Order:
    """Plan a step. versions: of the weights now in training, by line."""
    answers = splice if config.objective.answer_term > 0 else None
    plans: dict[Line, dict[Role, Plan]] = {}
    for line in sorted(versions):
        shares: dict[Role, Plan] = {}
        for role in roles_of(line, config):
            own = [c for c in credited if c.judged.group.role == role]
            every = _reads_every_row(config, role)
            shares[role] = plan(own, answers, versions[line], every=every)
        if shares:
            plans[line] = shares
    return Order(step, plans)


def roles_of(line: Line, config: RunConfig) -> tuple[Role, ...]:
    """The unfrozen roles that a line serves."""
    shared = config.model.generator == "shared"
    serves: dict[Line, tuple[Role, ...]] = {
        "solver": ("solver", "generator") if shared else ("solver",),
        "generator": ("generator",),
    }
    frozen = {"solver": config.solver.frozen, "generator": config.generator.frozen}
    return tuple(role for role in serves.get(line, ()) if not frozen[role])


def lines_of(config: RunConfig) -> tuple[Line, ...]:
    """The lines of weights that a run trains or keeps frozen."""
    return ("solver",) if config.model.generator == "shared" else ("solver", "generator")


def _reads_every_row(config: RunConfig, role: Role) -> bool:
    """Whether rollouts of advantage 0 have a part in the role's loss."""
    return config.objective.kl > 0 or surrogate_of(config.objective, role) in EVERY_ROW


def lesson_of(
    judged: Sequence[Judged], config: RunConfig, splice: Splice | None, *, step: int
) -> Lesson:
    """The rows that the offline objective takes; a group one of whose rows cannot be made gives
    none.

    splice  how references are put behind reasoning; needed where the loss is on them
    """
    objective = OBJECTIVES[config.offline.objective]
    rows: list[Row] = []
    values: list[float] = []
    dead = unspliced = 0
    for one in judged:
        picks = objective.take(one, config.offline)
        made = [_row(objective, one.group, pick, splice) for pick in picks]
        found = [row for row in made if row is not None]
        if not found or len(found) < len(made):
            dead += 1
            unspliced += (len(made) - len(found)) * (objective.on == "reference")
            continue
        rows += found
        values += [pick.value for pick in picks]
    return Lesson(step, tuple(rows), tuple(values), dead, unspliced)


def _row(objective: Offline, group: Group, pick: Pick, splice: Splice | None) -> Row | None:
    rollout = group.rollouts[pick.seat]
    if objective.on == "completion":
        return row_of(rollout, (), None, (1.0,) * sum(rollout.written))
    if splice is None:
        raise ValueError("an objective on references needs to be told how they are spliced in")
    return row_of(rollout, splice.reference_ids(group.task), splice.behind(rollout), ())
