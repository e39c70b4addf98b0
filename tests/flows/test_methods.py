"""Every plug-in has a page that stands alone: what it computes, from what, within what, by whom."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest

from flows.errors import Refusal
from flows.looks.methods import Page, every_page, show_methods
from pipeline.rewards import REWARDS
from pipeline.settings.objective import ObjectiveConfig
from pipeline.settings.reward import RewardConfig

PAGES = every_page()
SOURCE = re.compile(
    r"arXiv \d{4}\.\d{5}|source: (?:Williams|J\. Schulman|Foster|this project|math-verify|"
    r"truncated and masked)|Foster et al\.",
    re.IGNORECASE,
)
RANGE = re.compile(
    r"in [\[({][-\d1]|at most -?\d|at least -?\d|>= 0|between -?\d|0 or 1|mean 0|"
    r"mean weighted by length is 0|any finite|in the rewards' unit|weight is in",
    re.IGNORECASE,
)
FORMULA = re.compile(
    r"[-+*/#^=]|ln |log|share|sum|mean|\w\([^)]+\)|^Whether the |\b[01] |where|ratio"
)


def named(pages: list[Page], *kinds: str) -> list[pytest.param]:  # type: ignore[valid-type]
    return [pytest.param(p, id=f"{p.kind} {p.name}") for p in pages if p.kind in kinds]


def lacks(text: str) -> list[str]:
    """Which of formula, range and source a page's text does not tell."""
    formula, told = text.partition("\n")[0], " ".join(text.split())
    whole = {
        "formula": len(formula) > 20 and FORMULA.search(formula),
        "range": RANGE.search(told),
        "source": SOURCE.search(told),
    }
    return [what for what, found in whole.items() if not found]


KINDS = ("reward", "advantage", "surrogate", "divergence", "gate", "noise", "transform")


@pytest.mark.parametrize("page", named(PAGES, *KINDS, "correction", "aggregate", "offline"))
def test_a_page_tells_formula_inputs_range_and_source(page: Page) -> None:
    assert lacks(page.text) == [], page.text
    assert page.text.partition("\n")[2].strip()


@pytest.mark.parametrize("page", named(PAGES, "meter"))
def test_a_meters_page_tells_what_is_measured_by_whose_weights_and_its_statuses(
    page: Page,
) -> None:
    assert lacks(page.text) == [], page.text
    assert re.search(r"^values  [\[(]\w+", page.text, re.MULTILINE)
    assert re.search(r'^status  "\w+"', page.text, re.MULTILINE)
    assert re.search(r"Asked: the \w+|No weights are asked", page.text)
    assert "Fills the Meter port" not in page.text


@pytest.mark.parametrize("page", named(PAGES, "recipe"))
def test_a_recipes_page_tells_its_settings_and_where_it_was_published(page: Page) -> None:
    assert re.match(r"Source: .*arXiv \d{4}\.\d{5}", page.text)
    settings = re.findall(r"^  (\S+)=\S+$", page.text, re.MULTILINE)
    assert {key.partition(".")[0] for key in settings} >= {"objective"}


@pytest.mark.parametrize("page", named(PAGES, "offline", "recipe"))
def test_an_offline_objective_or_a_recipe_tells_how_it_is_called(page: Page) -> None:
    assert page.key.startswith("coclimb ")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("x * y of the rewards.\n\n-> [K]\nSource: arXiv 2402.03300.", ["range"]),
        ("x * y of the rewards.\n\n-> [K] in [0, 1]\nSource: .", ["source"]),
        ("Fills the Meter port.\n\nin [0, 1]. Source: arXiv 2402.03300.", ["formula"]),
        ("", ["formula", "range", "source"]),
    ],
)
def test_a_page_that_lacks_one_of_them_is_found_out(text: str, missing: list[str]) -> None:
    assert lacks(text) == missing


def test_every_choice_of_a_correction_an_aggregate_a_gate_and_a_transform_has_a_page() -> None:
    sections = {"objective": ObjectiveConfig, "reward": RewardConfig}
    keys = ("objective.correction", "objective.aggregate", "reward.gate", "reward.transform")
    for key in (*keys, "reward.correction"):
        section, _, field = key.partition(".")
        names = set(get_args(sections[section].model_fields[field].annotation)) - {"none"}
        assert {p.name for p in PAGES if p.key.startswith(f"{key} = ")} == names
    assert "reward.noise" in {p.key for p in PAGES}


def test_the_judges_page_says_that_it_reads_the_first_reference_alone() -> None:
    (page,) = (p for p in PAGES if (p.kind, p.name) == ("meter", "judge"))
    assert "Of several references it reads the first only." in " ".join(page.text.split())


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
    for kind in (*KINDS, "meter", "correction", "aggregate", "offline", "recipe"):
        assert kind in out
    with pytest.raises(Refusal, match="no method is called 'nope'"):
        show_methods("nope", json=False)
