"""Prompts: what the roles read, as ids whose boundaries never move."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from transformers import AutoTokenizer

from agents.prompts import Prompts
from flows.assemble import TINY
from pipeline.config import TagsConfig
from pipeline.worlds import rule, sloppy
from tests.tiny import tiny_tokenizer

Style = Literal["plain", "instructed"]


def prompts(style: Style = "plain", tags: TagsConfig | None = None) -> Prompts:
    return Prompts(tiny_tokenizer(), tags or TagsConfig(), style)


@pytest.mark.parametrize("style", ["plain", "instructed"])
def test_a_prompt_holds_its_question_verbatim(style: Style) -> None:
    made = prompts(style)
    for question in ("What is 3 + 4?", "  spaced  ", "日本語 {braces} %s", "line\nline"):
        assert question in made.decode(made.attempt(question))
        assert question in made.decode(made.proposal(question))


def test_a_question_reads_in_its_prompt_as_if_all_of_it_were_encoded_at_once() -> None:
    """A space before a word is the word's own: "Cy" behind it must be the "Cy" of every text."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    made = Prompts(tokenizer, TagsConfig(), "plain")
    rng = random.Random(0)
    for problem in (rule.sample(rng, [2], family) for family in rule.FAMILIES for _ in range(5)):
        whole = sloppy.ATTEMPT_PROMPT.format(question=problem.question)
        assert list(made.attempt(problem.question)) == tokenizer(whole)["input_ids"]
        whole = sloppy.PROPOSAL_PROMPT.format(question=problem.question)
        assert list(made.proposal(problem.question)) == tokenizer(whole)["input_ids"]


def test_the_instructed_prompt_shows_the_tags_of_the_run() -> None:
    made = prompts("instructed", TagsConfig(reasoning="reasoning", answer="final"))
    text = made.decode(made.attempt("Why?"))
    assert "<reasoning>\n...\n</reasoning>" in text
    assert "<final>\n...\n</final>" in text


def test_a_control_string_in_a_question_stays_plain_text() -> None:
    made = prompts()
    controls = set(made.tokenizer.get_added_vocab().values())
    ids = made.plain("a <think> b </answer> c <|end|>")
    assert not controls & set(ids)
    assert made.decode(ids) == "a <think> b </answer> c <|end|>"


def test_an_answer_block_is_its_tag_its_text_and_its_tag() -> None:
    made = prompts()
    assert made.answer("42") == made.open_answer + made.closed_reference("42")
    assert made.decode(made.answer("42")) == "<answer>42</answer>"


def test_no_reasoning_leaves_the_block_out() -> None:
    assert prompts().reasoning("") == ()
    assert prompts().decode(prompts().reasoning("so")) == "<think>so</think>"


def test_the_chat_style_wraps_the_question_as_a_users_turn() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
    )
    made = Prompts(tokenizer, TagsConfig(), "chat")
    text = made.decode(made.attempt("Why?"))
    assert text.startswith("[user]Question: Why?")
    assert text.endswith("[assistant]")
