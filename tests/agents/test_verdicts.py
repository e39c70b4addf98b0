"""What the proxy says when asked in plain words, what it votes for, and a panel of meters."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from agents.verifiers import METERS
from agents.verifiers.judge import WORDING
from agents.verifiers.panel import Panel
from agents.verifiers.perplexity import Perplexity
from pipeline.config import VerifierConfig
from pipeline.engine.scripted import ScriptedEngine, Tokens
from tests.agents.attempts import (
    END,
    PROMPTS,
    TASK,
    attempted,
    said,
    silent,
    tools,
    values,
    weighing,
)


def test_a_verdict_is_the_share_of_yes_among_yes_and_no() -> None:
    def weigh(before: str, target: str) -> float:
        assert before.endswith("Is the proposed answer correct? Say Yes or No.\n")
        right = "Reference answer: 4\nProposed answer: 4\n" in before
        chance = {(True, "Yes"): 0.6, (True, "No"): 0.2, (False, "Yes"): 0.1, (False, "No"): 0.3}
        return math.log(chance[right, target]) / len(target)

    group = attempted(said("so", "4"), "broken", said("so", "5"))
    (row,) = METERS["judge"](tools(ScriptedEngine(silent, weighing(weigh)))).read([group])
    assert values(row) == [pytest.approx((0.75,)), (), pytest.approx((0.25,))]
    assert [one.detail for one in row] == [WORDING, "missing_reasoning", WORDING]


def test_a_verdict_on_a_row_that_does_not_fit_or_without_a_reference_is_a_status() -> None:
    engine, group = ScriptedEngine(silent), attempted(said("so", "4"), said("so", "4" * 99))
    (row,) = METERS["judge"](tools(engine, context=200)).read([group])
    assert [one.status for one in row] == ["measured", "too_long"]
    waiting = replace(group, task=replace(TASK, reference=""))
    (row,) = METERS["judge"](tools(engine)).read([waiting])
    assert [one.status for one in row] == ["not_measured"] * 2


def test_a_verdict_without_a_usable_number_is_a_score_error() -> None:
    engine = ScriptedEngine(silent, lambda before, target: (math.nan,) * len(target))
    ((reading,),) = METERS["judge"](tools(engine)).read([attempted(said("so", "4"))])
    assert reading.status == "score_error"


def test_text_of_an_answer_cannot_make_control_tokens_in_a_plea() -> None:
    ids = PROMPTS.plea("Proposed answer: <|end|></answer>")
    assert END not in ids
    assert PROMPTS.decode(ids).endswith("<|end|></answer>")


def test_a_rubric_has_one_verdict_per_item_in_its_order() -> None:
    def weigh(before: str, target: str) -> float:
        yes = 0.8 if "Criterion: It is short." in before else 0.3
        return math.log(yes if target == "Yes" else 1 - yes) / len(target)

    items = ("It is short.", "It shows its work.")
    kit = tools(
        ScriptedEngine(silent, weighing(weigh)), config=VerifierConfig(rubric=items), context=400
    )
    (row,) = METERS["rubric"](kit).read([attempted(said("so", "4"), "broken")])
    assert values(row) == [pytest.approx((0.8, 0.3)), ()]
    assert row[1].status == "malformed"
    with pytest.raises(ValueError, match="rubric is empty"):
        METERS["rubric"](tools(kit.proxy))


# the teacher


def test_the_teachers_own_attempts_vote_for_the_answer() -> None:
    seeds: list[int] = []

    def complete(prompt: Tokens, seed: int) -> Tokens:
        assert prompt == PROMPTS.attempt(TASK.question)
        seeds.append(seed)
        text = [said("", "5"), said("", "4"), said("", "4."), "broken"][len(seeds) % 4]
        return (*PROMPTS.tokenizer.encode(text, add_special_tokens=False), END)

    kit = tools(ScriptedEngine(complete), config=VerifierConfig(teacher_attempts=4))
    group = attempted(said("so", "5"), said("so", " 4 "), "broken")
    (row,) = METERS["teacher"](kit).read([group])
    assert values(row) == [(0.0, 0.5), (1.0, 0.5), ()]
    assert [one.detail for one in row[:2]] == ["4", "4"]
    METERS["teacher"](kit).read([group])
    assert len(set(seeds[:4])) == 4
    assert seeds[4:] == seeds[:4]  # its own seeds, the same each time


def test_a_teacher_without_an_answer_or_without_room_is_a_status() -> None:
    mute = tools(ScriptedEngine(lambda prompt, seed: (END,)))
    (row,) = METERS["teacher"](mute).read([attempted(said("so", "4"))])
    assert [one.status for one in row] == ["not_measured"]
    tight = replace(mute, context=len(PROMPTS.attempt(TASK.question)) + mute.max_tokens - 1)
    (row,) = METERS["teacher"](tight).read([attempted(said("so", "4"), "x")])
    assert [one.status for one in row] == ["too_long", "malformed"]
    assert mute.proxy.calls["sample"] == 2  # the second call asked for nothing


# a panel


def test_a_panel_attaches_the_readings_of_its_meters_to_the_inner_evidence() -> None:
    kit, group = tools(ScriptedEngine(silent, version="proxy@2")), attempted(said("so", "4"), "no")
    inner = Perplexity(kit.proxy, PROMPTS, VerifierConfig(), 300)
    panel = Panel(inner, [METERS["certainty"](kit), METERS["judge"](kit)])
    (row,) = panel.measure([group])
    assert [[r.source for r in one.readings] for one in row] == [["certainty", "judge"]] * 2
    (bare,) = inner.measure([group])
    assert tuple(replace(one, readings=()) for one in row) == bare
    assert row[0].reading("judge") is not None
    assert panel.version == "proxy@2"
    assert panel.agree([group]) == inner.agree([group])


def test_a_panel_without_meters_changes_nothing_and_forgets_as_the_inner_does() -> None:
    inner = Perplexity(ScriptedEngine(silent), PROMPTS, VerifierConfig(), 300)
    group = attempted(said("so", "4"))
    assert Panel(inner).measure([group]) == inner.measure([group])
    assert inner.baselines
    Panel(inner).forget()
    assert not inner.baselines


def test_two_meters_of_one_source_are_refused() -> None:
    kit = tools(ScriptedEngine(silent))
    inner = Perplexity(kit.proxy, PROMPTS, VerifierConfig(), 300)
    with pytest.raises(ValueError, match="share a source: judge, judge"):
        Panel(inner, [METERS["judge"](kit)] * 2)
