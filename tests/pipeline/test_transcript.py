"""The strict grammar of completions, and NOVER's own rule beside it."""

from __future__ import annotations

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.transcript import Blocks, parse
from pipeline.types import Form

BLOCKS = Blocks("think", "answer")
PIECES = ("<think>", "</think>", "<answer>", "</answer>", "a", " ", "\n", "<", "/>", "<THINK>")


def form(completion: str, *, truncated: bool = False) -> str:
    return parse(completion, BLOCKS, truncated=truncated).form


def test_both_blocks_come_back_stripped():
    text = "\n<think> 2 < 3, so\n 5 > 4 </think>\n\n<answer>\n five \n</answer>\n"
    transcript = parse(text, BLOCKS, truncated=False)
    assert (transcript.form, transcript.first, transcript.final) == (
        "ok",
        "2 < 3, so\n 5 > 4",
        "five",
    )


def test_any_two_names_can_be_the_blocks():
    transcript = parse(
        "<task>Why?</task><answer>so</answer>", Blocks("task", "answer"), truncated=False
    )
    assert (transcript.first, transcript.final) == ("Why?", "so")


def test_two_blocks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two names"):
        Blocks("answer", "answer")


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("hello", "missing_reasoning"),
        ("<answer>b</answer>", "missing_reasoning"),
        ("a</think><answer>b</answer>", "missing_reasoning"),
        ("<THINK>a</THINK><ANSWER>b</ANSWER>", "missing_reasoning"),
        ("<think >a</think ><answer >b</answer >", "missing_reasoning"),
        ('<think class="x">a<answer>b</answer>', "missing_reasoning"),
        ("\uff1cthink\uff1ea\uff1c/think\uff1e", "missing_reasoning"),
        ("<think>a", "unclosed"),
        ("<think>a<answer>b</answer>", "unclosed"),
        ("<think>a</answer>", "unclosed"),
        ("<think>a</think><answer>b", "unclosed"),
        ("<think>a</think><answer>b</think>", "unclosed"),
        ("<think>a<think>b</think></think><answer>c</answer>", "nested"),
        ("<think>a<think>b</think><answer>c</answer>", "nested"),
        ("<think>a<answer>b</answer></think>", "nested"),
        ("<think>a</think><answer>b<answer>c</answer></answer>", "nested"),
        ("<think>a</think><answer><think>b</think></answer>", "nested"),
        ("<think>a</think><think>b</think><answer>c</answer>", "repeated"),
        ("<think>a</think></think><answer>c</answer>", "repeated"),
        ("<think>a</think><answer>b</answer><answer>c</answer>", "repeated"),
        ("<think>a</think><answer>b</answer></answer>", "repeated"),
        ("<answer>b</answer><think>a</think>", "reordered"),
        ("</think><think>a<answer>b</answer>", "reordered"),
        ("<think>a</answer></think><answer>b</answer>", "reordered"),
        ("<think>a</think></answer><answer>b", "reordered"),
        ("<think>a</think><answer>b</think></answer>", "reordered"),
        ("<think>a</think>", "missing_answer"),
        ("<think>a</think></answer>", "missing_answer"),
        ("<think>a</think><answer> \n </answer>", "missing_answer"),
        ("So: <think>a</think><answer>b</answer>", "text_outside"),
        ("<think>a</think> so <answer>b</answer>", "text_outside"),
        ("<think>a</think><answer>b</answer> done", "text_outside"),
        ("<think>a</think><answer>b</answer>\x00", "text_outside"),
        ("<think> </think><answer>b</answer>", "ok"),
        ("<think>a</Think></think><answer>1 < 2 > 0 <b></answer>", "ok"),
        ("<think>\u2028\x1b[31m\x00\ud800</think>\u2028<answer>\u05d0</answer>", "ok"),
    ],
)
def test_every_malformed_case_has_its_reason(completion: str, expected: str):
    assert form(completion) == expected


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>a", "truncated"),
        ("a", "truncated"),
        ("<think>a<think>b", "truncated"),
        ("<think>a</think><answer>b</ans", "truncated"),
        ("<think>a</think><answer>b</answer>", "ok"),
        ("<think>a</think><answer>b</answer> and then", "text_outside"),
        ("<think>a</think><answer>b</answer><think>", "repeated"),
        (" ", "empty"),
    ],
)
def test_a_spent_budget_is_the_reason_unless_the_final_block_was_closed(completion, expected):
    assert form(completion, truncated=True) == expected


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)), st.booleans())
def test_any_text_gets_one_of_the_forms_and_blocks_only_when_ok(text: str, truncated: bool):
    transcript = parse(text, BLOCKS, truncated=truncated)
    assert transcript.form in get_args(Form)
    assert (transcript.form == "ok") == bool(transcript.final)
    assert transcript.form == "ok" or transcript.first == ""


@given(st.text(), st.text().filter(str.strip))
def test_blocks_without_tags_inside_round_trip(first: str, final: str):
    text = f" <think>{first}</think>\n<answer>{final}</answer>\n"
    if not any(tag in first + final for tag in BLOCKS.tags):
        transcript = parse(text, BLOCKS, truncated=False)
        assert (transcript.form, transcript.first) == ("ok", first.strip())
        assert transcript.final == final.strip()


def nover_format(completion: str) -> bool:
    """NOVER's format rule: both first matches rebuilt without anything between equal the whole.

    Compared with all whitespace removed (repository thinkwee/NOVER, tag_format_reward). There, a
    spaced tag around an empty block passes and then crashes the extractor; here it just passes.
    Linear: the first match starts at the first opening tag or does not exist.
    """
    first, final = (_first_block(completion, name) for name in (BLOCKS.first, BLOCKS.final))
    rebuilt = f"<{BLOCKS.first}>{first}</{BLOCKS.first}><{BLOCKS.final}>{final}</{BLOCKS.final}>"
    return "".join(completion.split()) == "".join(rebuilt.split())


def _first_block(completion: str, name: str) -> str:
    """Content of the first <name>..</name>, non-greedy; "" where there is none."""
    _, opened, after = completion.partition(f"<{name}>")
    content, closed, _ = after.partition(f"</{name}>")
    return content.strip() if opened and closed else ""


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_what_the_strict_grammar_accepts_nover_accepts(text: str):
    if form(text) == "ok":
        assert nover_format(text)


@pytest.mark.parametrize(
    "piece",
    ["<think>", "</answer>", "<think>a</think>", "<", " ", "<think", "a", "<answer></think>"],
)
def test_a_megabyte_is_read_in_linear_time(piece: str):
    # a pass takes some 50 ms; a quadratic one would take minutes
    text = piece * (2**20 // len(piece))
    start = time.process_time()
    assert form(text) != "ok"
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>a b</think>\n\n<answer>c</answer>", True),
        ("x<think>a</think><answer>c</answer>", False),
        ("<think>a</think>x<answer>c</answer>", False),
        ("<think>a</think><answer>c</answer>x", False),
        ("<answer>c</answer><think>a</think>", False),
        ("<think>a<answer>c</answer>", False),
        ("<think>a</think>", False),
        ("<think></think><answer> </answer>", True),
        ("<think>a</think><answer>b</answer><answer>c</answer>", False),
        ("<think>a</think><think>b</think><answer>c</answer>", False),
        ("<think>a<think>b</think></think><answer>c</answer>", False),
        ("<think>a<think>b</think><answer>c</answer>", True),
        ("< think ></think><answer>c</answer>", True),
    ],
)
def test_novers_rule_is_kept_with_its_consequences(completion: str, expected: bool):
    assert nover_format(completion) is expected
