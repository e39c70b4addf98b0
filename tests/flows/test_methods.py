"""Every plug-in has a page that stands alone: what it computes, from what, within what, by whom."""

from __future__ import annotations

import json
import re

import pytest

from flows.errors import Refusal
from flows.methods import Page, every_page, show_methods
from pipeline.rewards import REWARDS

PAGES = every_page()
SOURCE = re.compile(r"arXiv \d{4}\.\d{5}|Source: |workshop")
RANGE = re.compile(r"in [\[({]|-> |at most|at least|between|0 or 1|any finite", re.IGNORECASE)


def named(pages: list[Page], *kinds: str) -> list[pytest.param]:  # type: ignore[valid-type]
    return [pytest.param(p, id=f"{p.kind} {p.name}") for p in pages if p.kind in kinds]


@pytest.mark.parametrize("page", named(PAGES, "reward", "advantage", "surrogate", "divergence"))
def test_a_page_tells_formula_inputs_range_and_source(page: Page) -> None:
    formula, _, rest = page.text.partition("\n")
    assert len(formula) > 20
    told = " ".join(page.text.split())
    assert RANGE.search(told), told
    assert SOURCE.search(told), told
    assert rest.strip()


@pytest.mark.parametrize("page", named(PAGES, "meter"))
def test_a_meters_page_tells_its_values(page: Page) -> None:
    assert "values" in page.text


@pytest.mark.parametrize("page", named(PAGES, "offline", "recipe"))
def test_an_offline_objective_or_a_recipe_tells_how_it_is_called_and_what_it_is(page: Page) -> None:
    assert page.key.startswith("coclimb ")
    assert len(page.text.split()) > 5


def test_the_reward_that_a_page_is_of_can_be_chosen_by_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_methods("sar", json=True)
    [page] = json.loads(capsys.readouterr().out)
    assert (page["key"], tuple(page["needs"])) == ("reward.name = 'sar'", REWARDS["sar"].needs)
    assert page["file"] == "pipeline/rewards/aligned.py"


def test_the_listing_has_every_kind_and_a_wrong_name_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_methods(None, json=False)
    out = capsys.readouterr().out
    for kind in ("meter", "reward", "advantage", "surrogate", "divergence", "offline", "recipe"):
        assert kind in out
    with pytest.raises(Refusal, match="no method is called 'nope'"):
        show_methods("nope", json=False)
