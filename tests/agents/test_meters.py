"""Meters over an engine that answers from a script, and over a tiny model where numbers count."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from agents.prompts import Prompts
from agents.solver import SamplingSolver
from agents.verifiers import METERS
from agents.verifiers.perplexity import Perplexity
from agents.verifiers.steps import step_ends, step_tokens, text_ends
from pipeline.config import SolverConfig, TagsConfig, VerifierConfig
from pipeline.engine.scripted import ScriptedEngine
from pipeline.ports import Engine
from tests.agents.attempts import (
    END,
    PROMPTS,
    TASK,
    attempted,
    local,
    said,
    silent,
    tools,
    values,
    weighing,
)
from tests.tiny import merging_tokenizer, tiny_model


def test_every_meter_reads_every_rollout_under_the_name_of_its_line_in_the_table() -> None:
    engine = ScriptedEngine(lambda prompt, seed: (*PROMPTS.plain("x"), END), version="p@7")
    config = VerifierConfig(rubric=("It is short.",))
    groups = [attempted(said("so", "4"), "broken"), attempted(said("so", "4"), said("no", "5"))]
    for name, build in METERS.items():
        meter = build(tools(engine, config=config))
        assert meter.source == name
        readings = meter.read(groups)
        assert [len(row) for row in readings] == [2, 2]
        versions = {one.version for row in readings for one in row}
        assert {one.source for row in readings for one in row} == {name}
        assert len(versions) == 1
        assert (versions == {"p@7"}) == (name not in ("rule", "vote", "shape"))  # without weights
        assert meter.read([]) == []


# certainty and entropy


def test_certainty_and_entropy_are_read_of_each_written_token_in_one_call() -> None:
    engine = ScriptedEngine(
        silent,
        sure=lambda before, target: (
            tuple(map(float, target)),
            (float(len(before)),) * len(target),
        ),
    )
    group, kit = attempted(said("so", "4"), "no"), tools(engine)
    (certainty,) = METERS["certainty"](kit).read([group])
    (entropy,) = METERS["entropy"](kit).read([group])
    asked = len(PROMPTS.attempt(TASK.question))
    assert values(certainty) == [tuple(map(float, r.tokens[asked:])) for r in group.rollouts]
    assert values(entropy)[1] == (float(asked),) * 3
    assert engine.calls == {"sample": 0, "score": 0, "confide": 1}


def test_what_was_confided_answers_no_other_groups_version_or_second_reading() -> None:
    engine = ScriptedEngine(silent)
    kit, group = tools(engine), attempted("so")
    certainty, entropy = METERS["certainty"](kit), METERS["entropy"](kit)
    certainty.read([group])
    certainty.read([group])  # the same meter again
    entropy.read([attempted("no")])  # other rollouts under the same ids
    engine.version = "later@1"
    ((reading,),) = entropy.read([group])
    assert engine.calls["confide"] == 4
    assert reading.version == "later@1"


def test_offline_certainty_is_the_frozen_weights_and_online_never_loads_them() -> None:
    def never() -> Engine:
        raise AssertionError("not needed online")

    policy, frozen = ScriptedEngine(silent, version="now@9"), ScriptedEngine(silent, version="p@0")
    online = tools(policy, frozen=never)
    offline = replace(online, frozen=lambda: frozen, config=VerifierConfig(certainty="offline"))
    ((now,),) = METERS["certainty"](online).read([attempted("so")])
    ((then,),) = METERS["certainty"](offline).read([attempted("so")])
    assert (now.version, then.version) == ("now@9", "p@0")


def test_rows_beyond_the_context_and_empty_completions_are_statuses() -> None:
    engine = ScriptedEngine(silent)
    room = len(PROMPTS.attempt(TASK.question)) + 3
    group = attempted("so", "much")
    nothing = replace(group.rollouts[0], written=(False,) * len(group.rollouts[0].tokens))
    group = replace(group, rollouts=(group.rollouts[0], group.rollouts[1]))
    for name in ("certainty", "entropy", "written", "unprompted"):
        (row,) = METERS[name](tools(engine, context=room)).read([group])
        assert [one.status for one in row] == ["measured", "too_long"]
        empty = replace(group, rollouts=(nothing, group.rollouts[1]))
        (row,) = METERS[name](tools(engine, context=room)).read([empty])
        assert [one.status for one in row] == ["malformed", "too_long"]


def test_a_certainty_that_is_not_finite_is_a_score_error() -> None:
    engine = ScriptedEngine(
        silent, sure=lambda before, target: ((math.inf,) * len(target), (0.0,) * len(target))
    )
    ((reading,),) = METERS["certainty"](tools(engine)).read([attempted("so")])
    assert (reading.status, reading.values) == ("score_error", ())


def test_a_rollouts_certainty_does_not_depend_on_its_siblings_seats() -> None:
    group = attempted(said("so", "4"), said("or so", "5"), "no")
    turned = replace(group, rollouts=group.rollouts[::-1], transcripts=group.transcripts[::-1])
    (one,) = METERS["certainty"](tools(local())).read([group])
    (other,) = METERS["certainty"](tools(local())).read([turned])
    for a, b in zip(values(one), values(other)[::-1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0.0)


# with the question and without


def test_a_completion_is_read_behind_its_question_and_behind_none_in_one_call() -> None:
    engine = ScriptedEngine(
        silent, weighing(lambda before, target: -1.0 if "2 + 2?" in before else -3.0)
    )
    kit, group = tools(engine), attempted("so")
    ((written,),) = METERS["written"](kit).read([group])
    ((unprompted,),) = METERS["unprompted"](kit).read([group])
    assert (written.values, unprompted.values) == ((-1.0,) * 3, (-3.0,) * 3)
    assert engine.calls["score"] == 1


def test_without_the_question_a_completion_stands_behind_the_prompt_of_an_empty_one() -> None:
    engine, group = local(), attempted(said("so", "4"))
    ((reading,),) = METERS["unprompted"](tools(engine)).read([group])
    written = group.rollouts[0].tokens[len(PROMPTS.attempt(TASK.question)) :]
    before = PROMPTS.attempt("")
    with torch.no_grad():
        logits = tiny_model(vocab=264)(torch.tensor([before + written])).logits[0]
    table = logits[len(before) - 1 : -1].log_softmax(-1)
    expected = table.gather(1, torch.tensor(written)[:, None])[:, 0].tolist()
    torch.testing.assert_close(list(reading.values), expected, atol=2e-5, rtol=0.0)


def test_written_log_probabilities_are_those_the_completion_was_sampled_with() -> None:
    engine = local()
    solver = SamplingSolver(engine, PROMPTS, SolverConfig(max_tokens=30), 300)
    [group] = solver.attempt([TASK], [[1, 2, 3]], ["g"])
    (row,) = METERS["written"](tools(engine)).read([group])
    for reading, rollout in zip(row, group.rollouts, strict=True):
        sampled = [p for p, w in zip(rollout.logprobs, rollout.written, strict=True) if w]
        torch.testing.assert_close(list(reading.values), sampled, atol=2e-5, rtol=0.0)


# steps


def test_a_step_is_a_sentence_or_a_line_and_numbers_keep_their_points() -> None:
    text = "It is 3.5 apples. Then two!\n\n So 5"
    assert [text[:end] for end in step_ends(text, 0, len(text))] == [
        "It is 3.5 apples.",
        "It is 3.5 apples. Then two!",
        text,
    ]
    assert step_ends("  \n \n", 0, 4) == []


def test_a_steps_value_is_the_geometric_mean_of_its_tokens_probabilities() -> None:
    # by hand: bytes are tokens, so <think> is written token 1, "a." ends behind 3, " bc" behind 6
    chances = [0.9, 0.25, 1.0, 0.5, 0.5, 0.125] + [0.9] * 5
    engine = ScriptedEngine(
        silent, lambda before, target: tuple(map(math.log, chances[: len(target)]))
    )
    ((reading,),) = METERS["steps"](tools(engine)).read([attempted(said("a. bc", "4"))])
    assert reading.at == (3, 6)
    assert reading.values == pytest.approx((0.5, (0.5 * 0.5 * 0.125) ** (1 / 3)))


def test_repeating_an_easy_step_raises_the_sum_of_steps_without_bound() -> None:
    engine = ScriptedEngine(silent, weighing(lambda before, target: math.log(0.9)))
    group = attempted(*(said("I see. " * n, "4") for n in (1, 4, 16)))
    (row,) = METERS["steps"](tools(engine)).read([group])
    assert [sum(one.values) for one in row] == pytest.approx([0.9, 3.6, 14.4])


def test_steps_without_text_or_without_blocks() -> None:
    engine = ScriptedEngine(silent)
    (row,) = METERS["steps"](tools(engine)).read([attempted(said(" ", "4"), "loose")])
    assert [(one.status, one.values, one.at) for one in row] == [
        ("measured", (), ()),
        ("malformed", (), ()),
    ]


def test_tokens_inside_a_character_count_with_the_one_that_completes_it() -> None:
    tokens = PROMPTS.plain("a\u65e5b")  # three bytes, three tokens
    assert text_ends(PROMPTS, tokens) == [1, 1, 1, 2, 3]
    assert text_ends(PROMPTS, tokens[1:2] * 40)[-1] > 0  # no text at all still ends


def test_steps_follow_tokens_that_merge_a_tag_with_what_follows_it() -> None:
    merged = Prompts(merging_tokenizer(), TagsConfig(), "instructed")
    text = "<think>\nso\nor so.\n</think>\n\n<answer>\n4\n</answer>"
    group = attempted(text, prompts=merged)
    (rollout,) = group.rollouts
    written = rollout.tokens[len(merged.attempt(TASK.question)) :]
    pieces = [merged.decode(written[a:b]) for a, b in step_tokens(merged, rollout)]
    assert [piece.strip(">\n") for piece in pieces] == ["so", "or so."]


# answers under reasonings


def test_the_cross_matrix_weighs_each_answer_under_each_reasoning() -> None:
    chance = {("a", "5"): 0.5, ("a", "6"): 0.25, ("b", "5"): 0.125, ("b", "6"): 1.0}

    def weigh(before: str, target: str) -> float:
        reasoning = before.split("<think>")[1][0]
        return math.log(chance[reasoning, target[0]]) / len(PROMPTS.closed_reference("5"))

    group = attempted(said("a", "6"), said("b", "5"), said("a", "5."), "broken")
    engine = ScriptedEngine(silent, weighing(weigh))
    (row,) = METERS["cross"](tools(engine)).read([group])
    logs = {key: math.log(p) for key, p in chance.items()}
    assert json.loads(row[0].detail) == ["5", "6"]  # two say 5
    assert row[0].values == pytest.approx((logs["a", "5"], logs["a", "6"]))
    assert row[1].values == pytest.approx((logs["b", "5"], logs["b", "6"]))
    assert [one.at for one in row] == [(1,), (0,), (0,), ()]
    assert row[3].status == "malformed"


def test_an_answer_beyond_the_candidates_has_no_index_and_few_answers_no_matrix() -> None:
    kit = tools(ScriptedEngine(silent), config=VerifierConfig(candidates=1))
    (row,) = METERS["cross"](kit).read([attempted(said("a", "5"), said("b", "6"))])
    assert [(one.at, len(one.values)) for one in row] == [((0,), 1), ((), 1)]
    (row,) = METERS["cross"](kit).read([attempted(said("a", "5"), "x", "y")])
    assert [one.status for one in row] == ["not_measured", "malformed", "malformed"]


def test_the_crosss_numbers_are_those_of_the_consensus() -> None:
    group = attempted(said("so", "5"), said("or so", "66"), said("no", "5"))
    (row,) = METERS["cross"](tools(local())).read([group])
    table = torch.tensor([one.values for one in row], dtype=torch.float64)
    shares = table.logsumexp(0).softmax(0)
    [found] = Perplexity(local(), PROMPTS, VerifierConfig(), 300).agree([group])
    assert found.answer == json.loads(row[0].detail)[int(shares.argmax())]
    assert found.confidence == pytest.approx(float(shares.max()), abs=1e-5)
