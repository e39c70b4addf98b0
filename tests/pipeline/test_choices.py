"""Lettered options, and references brought to letter and text."""

from __future__ import annotations

import pytest

from pipeline.text.choices import Option, letter_text, options_of, with_options

ASKED = "Which is a fruit?\n\n{}"
FRUIT = ("a rock", "a pear", "a chair")


@pytest.mark.parametrize("form", ["{}. {}", "{}) {}", "({}) {}", "{}: {}", " [{}]  {}", "{}.) {}"])
@pytest.mark.parametrize("letters", ["ABC", "abc"])
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_options_are_found_in_every_usual_form(form: str, letters: str, between: str) -> None:
    lines = between.join(form.format(*pair) for pair in zip(letters, FRUIT, strict=True))
    found = tuple(Option(*pair) for pair in zip(letters, FRUIT, strict=True))
    assert options_of(ASKED.format(lines)) == found


@pytest.mark.parametrize(
    "question",
    [
        "Who was A. Lincoln?",
        "A. Lincoln was who?",  # one is no choice
        ASKED.format("A. a rock\nB) a pear"),  # two styles
        ASKED.format("B. a rock\nC. a pear"),  # begins in the middle
        "Emotions:\nA: joy\nB: fear\n\nCauses:\nA: rain\nB: sun",  # two sets
        ASKED.format("I. a rock\nII. a pear"),
    ],
)
def test_what_is_no_one_set_of_options_is_none(question: str) -> None:
    assert options_of(question) == ()


def test_an_options_text_goes_on_to_the_next_and_the_last_ones_to_its_paragraphs_end() -> None:
    found = options_of("Which?\nA. one\ntwo\n\nthree\nB. four\nfive\n\nExplain.")
    assert found == (Option("A", "one two three"), Option("B", "four five"))


@pytest.mark.parametrize(
    ("reference", "expected", "how"),
    [
        ("B", "B. a pear", "letter"),
        ("(b)", "B. a pear", "letter"),
        ("b.", "B. a pear", "letter"),
        ("A pear.", "B. a pear", "text"),
        ("B. a pear", "B. a pear", None),  # says both already
        ("(B) a pear", "(B) a pear", None),
        ("D", "D", None),
        ("an apple", "an apple", None),
    ],
)
def test_a_letter_or_a_text_becomes_both(reference: str, expected: str, how: str | None) -> None:
    asked = ASKED.format("A. a rock\nB. a pear\nC. a chair")
    assert letter_text(asked, reference) == (expected, how)


def test_a_reference_that_names_two_options_is_left_alone() -> None:
    assert letter_text("Which?\nA. C\nB. x\nC. y", "C") == ("C", None)
    assert letter_text("Which?\nA. x\nB. X", "x") == ("x", None)
    assert letter_text("Which?", "a") == ("a", None)


def test_options_from_a_column_are_read_back_from_the_question() -> None:
    asked = with_options("Which is a fruit?\n", FRUIT)
    assert asked == "Which is a fruit?\n\nA. a rock\nB. a pear\nC. a chair"
    assert tuple(option.text for option in options_of(asked)) == FRUIT
