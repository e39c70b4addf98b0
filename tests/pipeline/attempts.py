"""Evidence of attempts written by hand, with a reading of every meter, for tests of rewards."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.config import RewardConfig
from pipeline.rewards import judge
from pipeline.types import Evidence, Group, Judged, Reading, Role, Rollout, Status, Task, Transcript

Values = Mapping[str, Sequence[float]]
PLAIN: Values = {
    "rule": (1, 1, 1),
    "vote": (1, 1, 1),
    "shape": (10, 5, 2, 0.25),
    "certainty": (1, 2),
    "entropy": (0.5, 0.25),
    "written": (-0.5, -0.25),
    "unprompted": (-1, -2),
    "steps": (0.9, 0.5, 0.75),
    "cross": (-1, -2),
    "judge": (0.75,),
    "rubric": (1, 0, 0.5),
    "teacher": (1, 0.75),
    "start": (0.5, 0.25),
}


def group_of(size: int, role: Role = "solver") -> Group:
    rollouts = tuple(Rollout(f"g0-a{i}", (), (), (), "", "end", i, "solver@0") for i in range(size))
    task = Task("t0", "How many?", "six", "human")
    return Group("g0", role, task, rollouts, (Transcript("ok", "so", "six"),) * size)


def reading(source: str, values: Sequence[float], own: int | None = 0) -> Reading:
    """A measured reading; `own` is where a "cross" reading has the own answer."""
    at = (own,) if source == "cross" and own is not None else ()
    return Reading(source, "meter@0", "measured", tuple(map(float, values)), at)


def measured(*logprobs: float, tokens: int = 0, **values: Sequence[float]) -> Evidence:
    """A well-formed attempt, its baseline equal, with plain readings where none are named."""
    readings = tuple(reading(source, row) for source, row in {**PLAIN, **values}.items())
    return Evidence("measured", "proxy@0", logprobs, logprobs, tokens, readings=readings)


def against(given: Sequence[float], bare: Sequence[float], **values: Sequence[float]) -> Evidence:
    """A well-formed attempt with log-probabilities with and without its reasoning."""
    return replace(measured(*given, tokens=5, **values), baseline_logprobs=tuple(bare))


def status(value: Status, detail: str = "truncated") -> Evidence:
    """An attempt that was not measured; meters read a malformed one all the same."""
    readings = tuple(reading(source, row) for source, row in PLAIN.items())
    return Evidence(value, "proxy@0", detail=detail, readings=readings)


def judged(evidence: Sequence[Evidence], config: RewardConfig) -> Judged:
    return judge(group_of(len(evidence)), evidence, config)


def random_group(rng: random.Random, size: int, reference: int, written: int) -> list[Evidence]:
    """A group of well-formed attempts with references and readings of so many tokens."""

    def nats(count: int) -> list[float]:
        return [-rng.expovariate(1.0) for _ in range(count)]

    bare = nats(reference)
    return [
        replace(
            against(
                nats(reference),
                bare,
                certainty=[-x for x in nats(written)],
                entropy=[-x for x in nats(written)],
                written=nats(written),
                unprompted=nats(written),
                steps=[rng.random() for _ in range(written)],
                cross=nats(size),
                shape=(written, rng.randrange(written), 3, rng.random()),
                rule=[float(rng.random() < 0.5)] * 3,
            ),
            reasoning_tokens=rng.randrange(written),
        )
        for _ in range(size)
    ]
