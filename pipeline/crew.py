"""Who works in a round: the parts, each behind its port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config import RunConfig
from pipeline.ports import Generator, Learner, Proxy, Solver, Verifier
from pipeline.types import PoolFigure


@dataclass(frozen=True, slots=True)
class Crew:
    """The parts a round works with, each behind its port. None of them knows any truth.

    pool  measures the present proxy on the frozen pool, None without one; it decides syncs alone
    """

    config: RunConfig
    generator: Generator | None
    solver: Solver
    verifier: Verifier
    learner: Learner
    proxy: Proxy
    pool: Callable[[], PoolFigure | None]
