"""Prompts: what the roles read, as ids whose boundaries never move."""

from __future__ import annotations

from typing import Literal

import pytest

from agents.prompts import Prompts
from pipeline.config import TagsConfig
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
