"""Two stored versions set against each other, over a scripted run and the base that ships."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flows.assemble import Parts
from flows.errors import Refusal
from flows.looks.passk import Result, Wanted, find_result
from flows.looks.passk_tables import show
from flows.looks.plot_passk import plot_contrast
from flows.looks.versions import find_version, stand_at
from flows.progress import Quiet
from pipeline.config import RunConfig
from pipeline.evaluation.attempts import Attempts, Draw, attempt_all, mean_logprobs, token_entropy
from pipeline.evaluation.contrast import Material, contrast, told_at
from pipeline.evaluation.exam import ProbeItem
from store import points, questions
from store.errors import Unknown
from tests.flows.scripted import SMALL, Bench, scripted_parts

WANTED = Wanted(samples=4, tasks=0, temperature=None, seed=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A run of four rounds, of whose checkpoints the older ones were pruned."""
    changes = {
        "rounds": 4,
        "probe": {**SMALL.probe.model_dump(), "solver_tasks": 2},
        "data": {"probe_share": 0.4},
        "checkpoint": {"keep": 2},
    }
    config = RunConfig.model_validate({**SMALL.model_dump(), **changes})
    made = Bench(tmp_path_factory.mktemp("passk"), config)
    made.go_on()
    yield made
    made.store.close()


def solvable_parts(config: RunConfig) -> Parts:
    """The scripted parts, with held-out tasks whose references are what the script may say."""
    parts = scripted_parts(config)
    items = [replace(item, reference=str(n % 4)) for n, item in enumerate(parts.exam.items)]
    parts.exam = replace(parts.exam, items=tuple(items))
    return parts


def result(bench: Bench, a: str, b: str, wanted: Wanted = WANTED) -> Result:
    versions = find_version(bench.store, a), find_version(bench.store, b)
    return find_result(bench.store, bench.home, versions, wanted, solvable_parts)


def test_a_version_is_named_by_run_and_round(bench: Bench) -> None:
    found = find_version(bench.store, "run@2")
    assert (found.run, found.round, found.version.id) == (bench.run, 2, "solver@4")
    assert find_version(bench.store, "run@0").version.id == "solver@0"
    for name in ("run", "run@x", "@2", "run@-1"):
        with pytest.raises(Refusal, match="expected RUN@ROUND"):
            find_version(bench.store, name)
    with pytest.raises(Refusal, match="has no round 9"):
        find_version(bench.store, "run@9")
    with pytest.raises(Unknown):
        find_version(bench.store, "nobody@0")


def test_a_pruned_round_is_climbed_again_to_the_weights_it_had(bench: Bench) -> None:
    kept = {point.round for point in points.checkpoints(bench.store, bench.run)}
    pruned = {0, 1, 2, 3, 4} - kept
    assert pruned & {1, 2}
    for round in sorted({0, *pruned}):
        wanted = find_version(bench.store, f"run@{round}")
        parts = stand_at(bench.store, bench.home, wanted, scripted_parts, Quiet())
        assert parts.learner.versions()["solver"].checksum == wanted.version.checksum
        assert parts.solver.engine.version == f"solver@{2 * round}"


def test_weights_other_than_those_recorded_are_refused(bench: Bench) -> None:
    wanted = find_version(bench.store, "run@4")
    other = replace(wanted, version=replace(wanted.version, checksum="0" * 64))
    with pytest.raises(Refusal, match="not those that the round recorded"):
        stand_at(bench.store, bench.home, other, scripted_parts, Quiet())


def test_a_fork_tells_its_parents_rounds_and_its_own(bench: Bench) -> None:
    fork = bench.new("fork", parent=(bench.run, 3))
    bench.go_on(fork)
    assert find_version(bench.store, "fork@2").run == bench.run
    own = find_version(bench.store, "fork@4")
    assert own.run == fork
    parts = stand_at(bench.store, bench.home, own, scripted_parts, Quiet())
    assert parts.learner.versions()["solver"].checksum == own.version.checksum


def test_every_figure_is_told_and_the_result_is_kept(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    first = result(bench, "run@0", "run@4")
    found = first.contrast
    assert "A attempts: begins" in capsys.readouterr().err
    assert [one.id for one in found.tasks] == [
        item.id for item in scripted_parts(bench.config).exam.items
    ]
    assert found.n == 4
    whole = found.curves[0]
    assert (whole.part, whole.ks, whole.tasks) == ("all", (1, 2, 4), len(found.tasks))
    assert whole.a[0].value == pytest.approx(found.a.accuracy[0])
    assert whole.a[0].value == pytest.approx(sum(found.a.counts) / (4 * len(found.tasks)))
    assert whole.a[2].value >= whole.a[1].value >= whole.a[0].value
    assert whole.delta_se.value == pytest.approx(whole.a[2].value - whole.b[0].value)
    cells = found.coverage
    assert sum(map(len, (cells.both, cells.a_only, cells.b_only, cells.neither))) == len(
        found.tasks
    )
    assert {held.id for held in found.again} == {h.id for h in (*cells.a_only, *cells.b_only)}
    assert sum(found.a.histogram.values()) == len(found.tasks)
    assert (len(cells.a_only) > 0, len(cells.b_only) > 0) == (True, True)
    written = [one.completions for one in found.perplexity if one.kind == "all"]
    assert written == [4 * len(found.tasks)] * 2

    again = result(bench, "ru@0", "run@4")
    told = capsys.readouterr().err
    assert "kept from before" in told
    assert "attempts" not in told
    assert (again.contrast, again.a.name) == (found, "ru@0")
    other = result(bench, "run@0", "run@4", replace(WANTED, seed=2))
    assert other.contrast.a.counts != found.a.counts


def test_a_kept_result_that_cannot_be_read_is_made_again(bench: Bench) -> None:
    wanted = replace(WANTED, seed=3, samples=2)
    found = result(bench, "run@0", "run@1", wanted)
    newest = max((bench.home.root / "passk").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    newest.write_text(newest.read_text()[:-30])
    assert result(bench, "run@0", "run@1", wanted) == found


def test_a_version_against_itself_differs_in_nothing(bench: Bench) -> None:
    found = result(bench, "run@2", "run@2").contrast
    assert found.a == found.b
    assert (found.coverage.a_only, found.coverage.b_only, found.again) == ((), (), ())
    assert all(one.value == 0.0 for curves in found.curves for one in curves.difference)
    assert {curves.leader for curves in found.curves} == {None}
    assert found.mcnemar == 1.0


@pytest.mark.parametrize("shared", [3, 1])
def test_only_tasks_that_both_versions_hold_out_are_set_against_each_other(
    bench: Bench, shared: int
) -> None:
    def parts_of(config: RunConfig) -> Parts:
        parts = solvable_parts(config)
        if stood:  # B's run holds out but so many of A's tasks, and others
            own = [replace(i, question=f"Else {i.question}") for i in parts.exam.items[shared:]]
            parts.exam = replace(parts.exam, items=(*parts.exam.items[:shared], *own))
        stood.append(config)
        return parts

    stood: list[RunConfig] = []
    versions = find_version(bench.store, "run@1"), find_version(bench.store, "run@4")
    wanted = replace(WANTED, samples=2, seed=50 + shared)
    if shared < 2:
        with pytest.raises(Refusal, match="hold out 1 tasks in common"):
            find_result(bench.store, bench.home, versions, wanted, parts_of)
        return
    found = find_result(bench.store, bench.home, versions, wanted, parts_of).contrast
    assert len(found.tasks) == len(found.a.counts) == len(found.b.counts) == shared


def test_no_run_is_changed_by_being_looked_at(bench: Bench) -> None:
    before = bench.chain(), questions.runs(bench.store)
    result(bench, "run@0", "run@3", replace(WANTED, seed=4, samples=2))
    assert (bench.chain(), questions.runs(bench.store)) == before


def made(name: str, right: Sequence[bool], depth: int = 1) -> Attempts:
    """A task attempted by hand: each attempt two tokens at log-probability -0.5 each."""
    n = len(right)
    return Attempts(
        item=ProbeItem(name, f"How much is {name}?", "1", "sums", depth),
        prompt=(5, 6),
        written=tuple((7,) * (2 + i) for i in range(n)),
        surprise=tuple(0.5 * (2 + i) for i in range(n)),
        votes=(n - sum(right),) if sum(right) < n else (),
        right=tuple(right),
        reasoned=(None,) * n,
        silent=0,
        truncated=0,
    )


def by_hand() -> Material:
    """A solves three tasks of four half the time; B two of them always, and the last now and then.

    pass@1: A 3/8, B 5/8; pass@2: A 3/4, B 3/4 of the tasks.
    """
    a = [made("p", (True, False)), made("q", (True, False)), made("r", (False, True), 3)]
    a.append(made("s", (False, False), 3))
    b = [made("p", (True, True)), made("q", (True, True)), made("r", (False, False), 3)]
    b.append(made("s", (False, True), 3))
    scores = [(-0.5, -1.0)] * 4, [(-0.25, -0.25)] * 4
    return Material((1.0, a), (1.0, b), None, scores, {"r": (1, 0), "s": (1, 1)})


def test_so_many_tasks_of_each_depth_are_attempted(bench: Bench) -> None:
    found = result(bench, "run@0", "run@4", replace(WANTED, tasks=4, samples=2)).contrast
    everything = scripted_parts(bench.config).exam.items  # of no depth
    assert [one.id for one in found.tasks] == [item.id for item in everything[:4]]


def test_a_contrast_worked_by_hand_comes_out() -> None:
    found = contrast(by_hand())
    whole = found.curves[0]
    assert [one.value for one in whole.a] == [3 / 8, 3 / 4]
    assert [one.value for one in whole.b] == [5 / 8, 3 / 4]
    assert (whole.leader, whole.crossover) == ("B", 2)
    assert whole.delta_se.value == pytest.approx(3 / 4 - 5 / 8)
    cells = found.coverage
    assert [h.id for h in cells.both] == ["p", "q"]
    assert ([h.id for h in cells.a_only], [h.id for h in cells.b_only]) == (["r"], ["s"])
    assert found.support.srr == pytest.approx(2 / 3)
    assert found.support.nscr == 0.0
    assert (found.a.histogram["0"], found.a.histogram["0.4-0.6"]) == (1, 3)
    assert (found.b.histogram["1"], found.b.histogram["0"]) == (2, 1)
    assert found.a.token_entropy == pytest.approx(0.5)
    # q of A: one right, one wrong, so 1/2 a majority of two; ln 2 + 1/4 of entropy
    assert found.a.many[1].majority == pytest.approx(3 / 8)
    assert found.a.answer_entropy == pytest.approx(3 / 4 * (math.log(2) + 1 / 4))
    assert found.a.many[0].reasoned is None
    told = {(one.of, one.kind): one for one in found.perplexity}
    assert told["B", "all"].quantiles == pytest.approx((math.exp(0.25),) * 5)
    assert (told["A", "short"].completions, told["A", "long"].completions) == (4, 4)
    assert told["A", "long"].quantiles[2] == pytest.approx(math.e)


def test_versions_that_change_seats_change_signs() -> None:
    material = by_hand()
    turned = contrast(replace(material, a=material.b, b=material.a, again={}))
    found = contrast(material)
    for one, other in zip(found.curves, turned.curves, strict=True):
        assert [x.value for x in one.difference] == [-x.value for x in other.difference]
    assert (turned.coverage.a_only, turned.mcnemar) != (found.coverage.a_only, 0.0)
    assert turned.support.nscr == -(found.support.nscr or 0.0)


def test_curves_are_told_at_powers_of_two_and_at_n() -> None:
    assert told_at(16) == (1, 2, 4, 8, 16)
    assert told_at(12) == (1, 2, 4, 8, 12)
    assert told_at(1) == (1,)


def test_a_contrast_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = contrast(by_hand())
    show(found, ("first@0", "first@4"))
    told = capsys.readouterr().out
    for part in (
        "A = first@0, B = first@4: 4 held-out tasks, 2 attempts",
        "B is above at first, from k = 2 on no longer",
        "A alone, 1 of 1 so again with fresh attempts: r (1/0, then 1/0)",
        "B alone, 0 of 1 so again with fresh attempts: s (0/1, then 1/1)",
        "no temperature within a factor 8",
        "exact McNemar p 1.000",
    ):
        assert part in told
    plot_contrast(found, ("first@0", "first@4"), tmp_path / "passk.png")
    assert (tmp_path / "passk.png").read_bytes()[:4] == b"\x89PNG"


def test_attempts_are_judged_counted_and_read_again(bench: Bench) -> None:
    parts = solvable_parts(bench.config)
    items, told = parts.exam.items[:3], list[int]()
    draw = Draw(7, "passk", 5)
    attempts = attempt_all(parts.solver, parts.exam.truth, items, draw, told.append)
    assert sum(told) == 15
    assert sum(one.solved for one in attempts) > 0
    for one, item in zip(attempts, items, strict=True):
        assert one.item == item
        assert one.prompt == parts.prompts.attempt(item.question)
        assert one.solved + sum(one.votes) + one.silent == 5
    alone = attempt_all(parts.solver, parts.exam.truth, items[1:2], draw, told.append)
    assert alone == attempts[1:2]  # whoever else is attempted
    scores = mean_logprobs(parts.solver.engine, attempts, told.append)
    assert [len(row) for row in scores] == [5, 5, 5]
    assert all(value < 0 for row in scores for value in row)
    assert token_entropy(attempts) == pytest.approx(
        sum(sum(one.surprise) for one in attempts)
        / sum(len(row) for one in attempts for row in one.written)
    )


def test_the_result_is_json_that_names_what_it_was_made_from(bench: Bench) -> None:
    result(bench, "run@0", "run@4")
    made = [json.loads(file.read_text()) for file in (bench.home.root / "passk").iterdir()]
    wanted = {"samples": 4, "tasks": 0, "temperature": 1.0, "seed": 1}
    (kept,) = [one for one in made if (one["wanted"], one["b"]["round"]) == (wanted, 4)]
    assert kept["a"]["checksum"] == find_version(bench.store, "run@0").version.checksum
    assert len(kept["contrast"]["a"]["counts"]) == len(kept["contrast"]["tasks"])
