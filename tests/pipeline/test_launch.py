"""A learner in two processes answers as one in this process, and leaves none behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.learning.launch.group import GroupFailed, Launch
from pipeline.learning.launch.learner import LaunchedLearner
from pipeline.learning.launch.messages import ORDERS, Job, read_file, write_file
from pipeline.learning.learner import PolicyLearner
from pipeline.learning.order import order_of
from pipeline.models.policy import fingerprint
from pipeline.ports import NonFinite
from tests.launching import gone, launched, tiny_base
from tests.pipeline.credits import SPLICE, config, credited, random_groups, rollout
from tests.tiny import tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("launch"), pytest.mark.timeout(400)]
SETTINGS = config(learner={"processes": 2, "token_budget": 60}, objective={"kl": 0.05})


def alone() -> PolicyLearner:
    return PolicyLearner({"solver": tiny_model(vocab=264)}, SETTINGS, SPLICE, {})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def started(base: Path) -> Iterator[tuple[LaunchedLearner, Path]]:
    """A learner in two processes, and the checkpoint of its start."""
    learner = launched(base, SETTINGS, SPLICE, {})
    begun = base / "begun"
    begun.mkdir()
    learner.save(begun)
    yield learner, begun
    learner.close()


@pytest.fixture
def two(started: tuple[LaunchedLearner, Path]) -> LaunchedLearner:
    """The same processes, at their start again."""
    learner, begun = started
    learner.restore(begun)
    return learner


def test_an_order_arrives_to_the_last_bit(tmp_path: Path):
    odd = rollout((10, 11), (20, 1), logprobs=(float("-inf"), -1 / 3))
    groups = [*random_groups(), credited([odd, odd], [float("nan"), 1e-310])]
    order = order_of(groups, SETTINGS, SPLICE, {"solver": "solver@0"}, step=7)
    write_file(ORDERS, order, tmp_path / "order")
    assert repr(asdict(read_file(ORDERS, tmp_path / "order"))) == repr(asdict(order))


def test_it_takes_the_steps_that_one_process_takes(two: LaunchedLearner):
    one = alone()
    assert two.versions() == one.versions()
    for step in range(1, 6):
        groups = random_groups(step, 5)
        left, right = (learner.step(groups, step=step)["solver"] for learner in (one, two))
        assert asdict(right) == pytest.approx(asdict(left), rel=1e-6, abs=1e-5)
    (version,) = two.versions().values()
    assert (version.id, version.parents) == ("solver@5", ("solver@4",))
    wanted, found = one.state("solver"), two.state("solver")
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)


def test_it_publishes_the_weights_that_its_version_names(two: LaunchedLearner):
    heard: list[tuple[str, dict[str, Tensor]]] = []
    two.publish_to = {"solver": lambda state, version: heard.append((version, dict(state)))}
    two.step(random_groups(), step=1)
    two.publish()
    [(version, state)] = heard
    assert version == "solver@1"
    assert fingerprint(state) == two.versions()["solver"].checksum


def test_it_goes_on_from_its_checkpoint_and_from_that_of_one_process(
    two: LaunchedLearner, tmp_path: Path
):
    folders = [tmp_path / "two", tmp_path / "one"]
    one = alone()
    for learner, folder in zip((two, one), folders, strict=True):
        learner.step(random_groups(1), step=1)
        folder.mkdir()
        learner.save(folder)
    unbroken = two.step(random_groups(2), step=2)
    two.restore(folders[0])
    assert two.step(random_groups(2), step=2) == unbroken
    two.restore(folders[1])
    assert two.versions() == one.versions()
    other = alone()
    other.restore(folders[0])
    same = other.step(random_groups(2), step=2)["solver"]
    assert asdict(same) == pytest.approx(asdict(unbroken["solver"]), rel=1e-6, abs=1e-5)


def test_a_step_that_is_not_finite_is_refused_and_the_next_is_taken(two: LaunchedLearner):
    bad = rollout((10, 11), (20, 1), version="solver@9", logprobs=(float("nan"), -1.0))
    before = two.versions()
    with pytest.raises(NonFinite, match="weights stay at solver@0"):
        two.step([credited([bad, bad], [1.0, -1.0])], step=1)
    assert two.versions() == before
    assert two.step(random_groups(), step=1)["solver"].rows


def test_a_checkpoint_of_another_base_is_refused_and_it_goes_on(
    two: LaunchedLearner, tmp_path: Path
):
    PolicyLearner({"solver": tiny_model(1, 264)}, SETTINGS, SPLICE, {}).save(tmp_path)
    with pytest.raises(ValueError, match="began from other weights"):
        two.restore(tmp_path)
    assert two.step(random_groups(), step=1)["solver"].rows


def test_a_process_killed_in_the_middle_of_a_step_is_one_clear_error(two: LaunchedLearner):
    victim = two.group.pids[-1]
    os.kill(victim, signal.SIGSTOP)  # so that the others are in the middle of it for sure
    threading.Timer(1.0, os.kill, (victim, signal.SIGKILL)).start()
    with pytest.raises(GroupFailed, match=r"asked to take: .*process \d of 2 is gone") as failure:
        two.step(random_groups(), step=1)
    assert "learner.log ends:\n  | " in str(failure.value)
    assert gone(two.group.pids)
    assert not two.group.folder.exists()
    with pytest.raises(GroupFailed, match="have been ended"):
        two.step(random_groups(), step=1)
    two.close()


def test_processes_that_cannot_start_say_why(tmp_path: Path):
    with pytest.raises(
        GroupFailed, match=r"asked to start: process \d of 2: BadModel: model refused"
    ):
        launched(tmp_path, SETTINGS, SPLICE, {})


def test_what_takes_too_long_is_ended(base: Path):
    started = Launch(Job(SETTINGS, str(base), "cpu"), base / "late.log", start_seconds=0.1)
    with pytest.raises(GroupFailed, match="start took more than 0 s"):
        LaunchedLearner(started, SPLICE, {})
