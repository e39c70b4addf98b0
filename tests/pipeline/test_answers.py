"""When two answers say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.answers import matches, matches_any, normalise


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("  The  HERON.\n", "the heron"),
        ("\uff14\uff12", "42"),
        ("Stra\u00dfe", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("yes !?.", "Yes"),
        ("\u306f\u3044\u3002", "\u306f\u3044"),
    ],
)
def test_case_width_space_and_closing_punctuation_do_not_matter(answer: str, reference: str):
    assert matches(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("50%", "50"),
        ("-3", "3"),
        ("the heron", "heron"),
        ("1.5", "15"),
        ("4 2", "42"),
        ("5\u00b0", "5"),
    ],
)
def test_articles_signs_and_inner_marks_do_matter(answer: str, reference: str):
    assert not matches(answer, reference)


@pytest.mark.parametrize("nothing", ["", "  ", "...", "?!"])
def test_an_empty_answer_matches_nothing_not_even_itself(nothing: str):
    assert not matches(nothing, nothing)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str):
    assert normalise(normalise(text)) == normalise(text)


def test_one_of_several_references_is_enough_and_none_is_none():
    assert matches_any("Four.", ["4", "four"])
    assert not matches_any("five", ["4", "four"])
    assert not matches_any("four", [])
    assert not matches_any("", ["", "four"])
