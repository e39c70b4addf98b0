"""Questions made bare: what ends in an instruction and a skeleton, and what only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.skeleton import Stripped, strip_skeleton

NOVER = (
    "\nQuestion: {}\n\nAnswer the question and return in the following format:\n\n"
    "<think>\n...\n</think>\n\n<answer>\n...\n</answer>\n"
)


@pytest.mark.parametrize(
    ("text", "question", "tags"),
    [
        (NOVER.format("How much is 2?"), "How much is 2?", ("think", "answer")),
        (
            "\nQuestion: Why?\n Say.\n\nAnswer the question and return in the following format:\n\n"
            "<think>\nYour reasoning process.\n</think>\n\n<answer>\nEmotion: [option letter]: "
            "[option text]\nCause: [option letter]: [option text]\n</answer>\n",
            "Why?\n Say.",
            ("think", "answer"),
        ),
        (
            "How much is 2? Please reply in this format:\n<reasoning>…</reasoning><final></final>",
            "How much is 2?",
            ("reasoning", "final"),
        ),
        (
            "Q: Which?\r\n\r\nUse the template below.\r\n<A_1>your steps here</A_1>\r\n"
            "<b-2>{answer}</b-2>",
            "Which?",
            ("A_1", "b-2"),
        ),
    ],
)
def test_any_pair_of_tags_behind_an_instruction_is_taken_off(
    text: str, question: str, tags: tuple[str, str]
) -> None:
    assert strip_skeleton(text) == Stripped(question, tags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "How much is 2?",
        "What do <think> and <answer> mean?",
        "What is wrong in <b>this</b> <i>text</i>",
        # the tags are what is asked about: filled, or without an instruction before them
        "Which format is this?\n<think>\n2 + 2 is 4\n</think>\n<answer>\n4\n</answer>",
        "Give the format's name.\n<title>Hamlet</title>\n<author>Shakespeare</author>",
        "Look at this page:\n<p>...</p>\n<q>...</q>",
        # not at the end, not two, not closed, the same twice
        NOVER.format("How much?") + "And be brief.",
        "Answer in this format:\n<answer>\n...\n</answer>",
        "How much?\nAnswer in this format:\n<think>...</think>\n<answer>...",
        "How much?\nAnswer in this format:\n<a>...</a>\n<a>...</a>",
        # nothing would be left to ask
        "Answer the question and return in the following format:\n<a>...</a>\n<b>...</b>",
    ],
)
def test_a_question_that_only_mentions_tags_stays(text: str) -> None:
    assert strip_skeleton(text) is None


@given(st.text(alphabet="ab?. <>/\n:", min_size=1, max_size=60).filter(str.strip))
def test_whatever_is_asked_comes_back_from_its_skeleton(question: str) -> None:
    found = strip_skeleton(NOVER.format(question))
    assert found is not None
    assert found.question == question.strip()


def test_stripping_twice_is_stripping_once() -> None:
    once = strip_skeleton(NOVER.format("How much is 2?"))
    assert once is not None
    assert strip_skeleton(once.question) is None
    twice = strip_skeleton(NOVER.format(NOVER.format("How much is 2?")))
    assert twice is not None
    assert strip_skeleton(twice.question) == once


def test_hostile_texts_cost_little() -> None:
    for text in ("<a>" * 300_000, "x\n" * 300_000 + "<a></a>", "format " * 100_000 + ">" * 1000):
        assert strip_skeleton(text) is None
