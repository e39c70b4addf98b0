"""Runs side by side, over scripted runs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from flows.errors import Refusal
from flows.looks.beside import Beside, Climb, side_by_side
from flows.looks.compare import compare
from flows.looks.plot_compare import plot_runs
from pipeline.config import RunConfig
from pipeline.types import Estimate
from store import questions
from tests.flows.scripted import SMALL, Bench


def changed(**more: object) -> RunConfig:
    return RunConfig.model_validate({**SMALL.model_dump(), **more})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Three runs: "run", one of another seed that goes one round, one with another exam."""
    made = Bench(tmp_path_factory.mktemp("compare"), changed(data={"probe_share": 0.4}))
    made.go_on()
    probe = {**SMALL.probe.model_dump(), "seed": 7}
    for name, more in (("seeded", {"seed": 2, "rounds": 1}), ("elsewhere", {"probe": probe})):
        made.config = changed(data={"probe_share": 0.4}, **more)
        made.go_on(made.new(name))
    yield made
    made.store.close()


def climb(run: Beside, axis: str) -> Climb:
    return next(one for one in run.climbs if one.axis == axis)


def test_each_axis_has_start_end_and_the_gain_between_them(bench: Bench) -> None:
    first, _ = side_by_side(bench.store, ["run", "seeded"])
    rounds = questions.rounds(bench.store, "run")
    for axis in ("solver", "generator"):
        found = climb(first, axis)
        begun, ended = rounds[0][axis], rounds[-1][axis]
        assert isinstance(begun, dict)
        assert isinstance(ended, dict)
        assert (found.start.value, found.end.value) == (begun["value"], ended["value"])
        assert sorted(found.rounds) == [0, 1, 2]
        assert found.gain is not None
        assert found.gain.value == pytest.approx(found.end.value - found.start.value)
        assert found.difference is None


def test_runs_of_one_exam_are_paired_by_task(bench: Bench) -> None:
    first, other = side_by_side(bench.store, ["run", "seeded"])
    found = climb(other, "solver")
    assert (found.paired, found.tasks) == (True, found.end.n)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(
        found.end.value - climb(first, "solver").end.value
    )
    (_, turned) = side_by_side(bench.store, ["seeded", "run"])
    back = climb(turned, "solver").difference
    assert back is not None
    assert (back.value, back.low) == pytest.approx(
        (-found.difference.value, -found.difference.high)
    )


def test_runs_of_different_exams_are_told_unpaired_though_ids_may_agree(bench: Bench) -> None:
    first, other = side_by_side(bench.store, ["run", "elsewhere"])
    found, there = climb(other, "generator"), climb(first, "generator")
    assert (found.paired, found.tasks) == (False, 0)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(found.end.value - there.end.value)
    half = found.difference.high - found.difference.value
    sides = (found.end.high - found.end.value, there.end.value - there.end.low)
    assert half == pytest.approx((sides[0] ** 2 + sides[1] ** 2) ** 0.5)


def test_settings_tokens_and_time_stand_beside_each_run(bench: Bench) -> None:
    found = side_by_side(bench.store, ["run", "seeded", "elsewhere"])
    assert [one.settings for one in found] == [
        {"probe.seed": 20_000, "rounds": 2, "seed": 1},
        {"probe.seed": 20_000, "rounds": 1, "seed": 2},
        {"probe.seed": 7, "rounds": 2, "seed": 1},
    ]
    assert [(one.rounds, one.steps) for one in found] == [(2, 4), (1, 2), (2, 4)]
    for one in found:
        updates = questions.updates(bench.store, one.run)
        assert one.tokens == sum(int(str(row["tokens"])) for row in updates) > 0
        assert one.seconds > 0


def test_one_run_or_the_same_twice_has_nothing_beside_it(bench: Bench) -> None:
    for names in (["run"], ["run", "run"], ["run", "seeded", "run"]):
        with pytest.raises(Refusal, match="name two runs or more"):
            side_by_side(bench.store, names)


def test_runs_are_printed_listed_and_drawn(bench: Bench, tmp_path: Path) -> None:
    out, rows = io.StringIO(), io.StringIO()
    with redirect_stdout(out):
        compare(bench.home, ["run", "seeded", "elsewhere"], json=False, plot=None)
    told = out.getvalue()
    for part in ("solver: accuracy", "seeded", "unpaired", "settings that differ", "probe.seed"):
        assert part in told
    picture = tmp_path / "runs.png"
    with redirect_stdout(rows):
        compare(bench.home, ["run", "seeded"], json=True, plot=picture)
    first, other = json.loads(rows.getvalue())
    assert (first["run"], other["climbs"][0]["paired"]) == ("run", True)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(Refusal, match=r"ends in \.png"):
        compare(bench.home, ["run", "seeded"], json=False, plot=tmp_path / "runs.txt")


def test_an_axis_that_only_one_run_probed_is_drawn_and_told(tmp_path: Path) -> None:
    here = Estimate(0.5, 0.4, 0.6, 9)
    one = Climb("solver", "accuracy", {0: here, 2: here}, here, None, False, 0)
    two = replace(one, difference=Estimate(0.1, -0.1, 0.3, 9), paired=True, tasks=9)
    alone = replace(one, axis="generator", figure="frontier share")
    runs = [
        Beside("aaaa", None, 2, 4, 10, 1.0, {}, (one, alone)),
        Beside("bbbb", "named", 2, 4, 10, 1.0, {}, (two,)),
    ]
    plot_runs(runs, tmp_path / "runs.svg")
    text = (tmp_path / "runs.svg").read_text()
    assert text.startswith("<?xml")
