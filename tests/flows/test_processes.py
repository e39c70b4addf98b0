"""A run whose learner is two processes: killed and gone on with, it is the run never stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.assemble import Parts
from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.learning.launch.command import environment
from pipeline.learning.launch.learner import LaunchedLearner
from pipeline.learning.ordered import Publish
from pipeline.types import Line
from store import invariants, ledger
from tests.flows.scripted import SMALL, Bench, scripted_parts
from tests.launching import gone, launched, tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("launch"), pytest.mark.timeout(400)]
TWO = RunConfig.model_validate(
    {**SMALL.model_dump(), "rounds": 1, "steps": 3, "learner": {"processes": 2}}
)


@dataclass
class Launching:
    """Builds the scripted parts around a learner in two processes, and says which they are."""

    base: Path

    def parts(self, config: RunConfig) -> Parts:
        return scripted_parts(config, learn=self.learn)

    def learn(
        self, config: RunConfig, splice: Splice, publish_to: Mapping[Line, Publish]
    ) -> LaunchedLearner:
        learner = launched(self.base, config, splice, publish_to)
        with (self.base / "pids").open("a") as told:
            told.write(" ".join(map(str, learner.group.pids)) + "\n")
        return learner

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self.base / "pids").read_text().split()]


def climb(home: Path, base: Path) -> None:
    """Go on with the run in a home, as a program of its own."""
    Bench(home, TWO, assembled=Launching(base).parts, begun=True).go_on()


def test_a_run_killed_with_its_learner_in_two_processes_ends_in_the_same_chain(tmp_path: Path):
    base = tiny_base(tmp_path / "base")
    launching = Launching(base)
    whole = Bench(tmp_path / "whole", TWO, assembled=launching.parts)
    whole.go_on()
    assert gone(launching.pids())
    broken = Bench(tmp_path / "broken", TWO, assembled=launching.parts)
    program = f"import sys; from pathlib import Path; from {__name__} import climb; "
    program += "climb(*map(Path, sys.argv[1:]))"
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(broken.folder), str(base)], env=environment(1)
    )
    while ledger.steps_done(broken.store, broken.run, 1) < 1 and running.poll() is None:
        time.sleep(0.02)
    running.kill()
    assert running.wait() == -9
    assert gone(launching.pids())
    broken.go_on()
    assert broken.chain() == whole.chain()
    assert invariants.verify(broken.store, None, broken.home.root)["violations"] == []
