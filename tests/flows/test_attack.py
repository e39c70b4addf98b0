"""The attack command: over the base that ships, over a run, and over meters of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.verifiers import METERS
from flows.cli import main
from flows.errors import Refusal
from flows.looks.attack import attack, attacked, parts_of
from pipeline.config import RunConfig, VerifierConfig
from pipeline.evaluation.acceptance import ACCEPTS, EXEMPT
from pipeline.evaluation.attacks import COPY
from pipeline.types import Group, Reading
from tests.flows.scripted import Bench, scripted_parts


@dataclass
class Gullible:
    """A rule that accepts whatever is well formed, and cannot read boxes."""

    source: str = "rule"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        return [tuple(self._one(t.form, t.final) for t in group.transcripts) for group in groups]

    def _one(self, form: str, answer: str) -> Reading:
        if form != "ok":
            return Reading("rule", "v", "malformed", detail=form)
        if "boxed" in answer:
            return Reading("rule", "v", "timeout")
        return Reading("rule", "v", "measured", (1.0, 1.0, 0.0))


def test_every_verifier_is_told_apart_by_attack() -> None:
    found = attack(scripted_parts(RunConfig()), [Gullible()], most=2)
    told = {(rate.verifier, rate.attack): rate for rate in found.rates}
    assert (found.tasks, found.proxy) == (2, "proxy@0")
    assert {verifier for verifier, _ in told} == ACCEPTS.keys() - {"rubric"}
    colon = told["exact", "colon"]  # as answer, as reasoning, as both, and bare, which is malformed
    assert (colon.tries, colon.accepted, colon.unread) == (8, 6, 0)
    assert (told["exact", "empty box"].unread, told["exact", "end token only"].accepted) == (4, 0)
    assert told["math", "all"].accepted == 0
    assert told["exact", COPY].accepted == 2
    assert told["exact", "all"].tries == told["likelihood", "all"].tries - 2  # the copies are fair
    assert told["exact", "all"].above
    assert not told["math", "all"].above
    # what a likelihood reads is well formed in three places of four
    assert told["level", "colon"].tries == 8


def test_every_meter_is_attacked_or_has_a_reason_not_to_be() -> None:
    config = RunConfig(verifier=VerifierConfig(rubric=("It is short.",)))
    assert sorted([*attacked(config), *EXEMPT]) == sorted(METERS)
    assert all(EXEMPT.values())
    assert "rubric" in attacked(config)


def test_a_rubric_with_items_is_attacked() -> None:
    config = RunConfig(verifier=VerifierConfig(rubric=("It is short.", "It is right.")))
    found = attack(scripted_parts(config), [Strict()], most=1)
    rubric = next(r for r in found.rates if (r.verifier, r.attack) == ("rubric", "all"))
    assert (rubric.accepted > 0, rubric.unread) == (True, 0)
    assert "rubric" not in found.exempt


@dataclass
class Strict:
    """A rubric whose first item every well-formed attempt meets, and none the second."""

    source: str = "rubric"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        return [
            tuple(
                Reading("rubric", "v", "measured", (1.0, 0.0))
                if t.form == "ok"
                else Reading("rubric", "v", "malformed", detail=t.form)
                for t in group.transcripts
            )
            for group in groups
        ]


def test_the_base_that_ships_is_attacked_without_a_run(tmp_path: Path, capsys) -> None:
    main_ended(["--home", str(tmp_path), "attack", "--tasks", "2"])
    shown = capsys.readouterr().out
    assert "2 held-out tasks, likelihood under proxy@0" in shown
    assert "(100.0)" in shown  # a copied reference, to a verifier of answers
    assert "above 1 %: " in shown
    assert "not attacked: vote, its reference is the siblings' answers" in shown
    assert "not attacked: rubric, verifier.rubric has no item" in shown


def test_the_rates_are_told_to_other_programs(tmp_path: Path, capsys) -> None:
    main_ended(["--home", str(tmp_path), "attack", "--tasks", "1", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["tasks"], told["proxy"], told["bar"]) == (1, "proxy@0", 0.01)
    assert {row["verifier"] for row in told["rates"]} == ACCEPTS.keys() - {"rubric"}
    assert told["exempt"] == EXEMPT | {"rubric": "verifier.rubric has no item"}
    exact = next(r for r in told["rates"] if (r["verifier"], r["attack"]) == ("exact", "all"))
    assert (exact["accepted"], exact["low"], exact["above"]) == (0, 0.0, False)
    assert exact["high"] > 0


def test_a_run_is_attacked_at_its_newest_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    live = bench.go_on()
    parts = parts_of(bench.home, bench.run[:2], scripted_parts)
    assert parts.config == bench.config
    assert attack(parts, [], 1).proxy == live.parts.proxy.version.id != "proxy@0"


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Refusal, match="has no checkpoint"):
        parts_of(bench.home, bench.run, scripted_parts)


def main_ended(arguments: list[str], code: int = 0) -> None:
    try:
        main(arguments)
        ended: object = 0
    except SystemExit as left:
        ended = left.code or 0
    assert ended == code
