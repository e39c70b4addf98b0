"""A page for every plug-in, made of the docstring it carries: what can be chosen, and by which key.

A page is the docstring of the function or class that the table names; of an offline objective the
lines that its file's docstring gives to the name; of a recipe its settings and where they are from.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from agents.verifiers import METERS
from flows.errors import Refusal
from flows.listing import table
from flows.report import as_json, console, shown
from pipeline import offline
from pipeline.advantages import ADVANTAGES
from pipeline.objectives import DIVERGENCES
from pipeline.offline import OBJECTIVES
from pipeline.recipes import RECIPES, Recipe
from pipeline.reward_config import RewardName
from pipeline.rewards import REWARDS
from pipeline.surrogates import SURROGATES
from store.questions import Answer

SUMMARY = 76  # characters of the first sentence that a listing shows


@dataclass(frozen=True, slots=True)
class Page:
    """One plug-in as a user chooses it.

    key   the setting that chooses it
    text  its docstring, in paragraphs
    """

    kind: str
    name: str
    key: str
    needs: tuple[str, ...]
    text: str
    file: str


def show_methods(name: str | None, *, json: bool) -> None:
    """Every page as a line, or those of one name whole."""
    pages = [page for page in every_page() if name in (None, page.name)]
    if not pages:
        raise Refusal(
            f"no method is called {name!r}", remedy="`coclimb methods` lists every one of them"
        )
    if json:
        print(as_json([_answer(page) for page in pages]))
        return
    if name is None:
        rows = [_answer(page) | {"about": _first_sentence(page.text)} for page in pages]
        table(rows, ("kind", "name", "about"))
        return
    for page in pages:
        needs = f"; reads {', '.join(page.needs)}" if page.needs else ""
        console().print(shown(f"{page.kind} {page.name} ({page.key}{needs}), {page.file}\n"))
        console().print(textwrap.indent(page.text, "  "), markup=False, soft_wrap=True)


def every_page() -> list[Page]:
    """All plug-ins in the order of the loop: measured, judged, compared, learned."""
    rewards = {str(name): reward.terms for name, reward in REWARDS.items()}
    return [
        *_pages("meter", "verifier.also", METERS),
        *_pages("reward", "reward.name", rewards),
        *_pages("advantage", "objective.advantage", ADVANTAGES),
        *_pages("surrogate", "objective.surrogate", SURROGATES),
        *_pages("divergence", "objective.divergence", DIVERGENCES),
        *(_of_objective(name) for name in OBJECTIVES),
        *(_of_recipe(name, recipe) for name, recipe in RECIPES.items()),
    ]


def _pages(kind: str, key: str, made: Mapping[str, Callable[..., object]]) -> Iterator[Page]:
    for name, call in made.items():
        needs = REWARDS[cast(RewardName, name)].needs if kind == "reward" else ()
        text = inspect.getdoc(call) or ""
        yield Page(kind, name, f"{key} = {name!r}", needs, text, _file(call.__module__))


def _of_objective(name: str) -> Page:
    """An offline objective: its lines in its file's docstring, then what it takes of a group."""
    told = inspect.getdoc(offline) or ""
    found = re.search(rf"^    {name} +((?:.+\n(?:     +.+\n)*))", told, re.MULTILINE)
    lines = " ".join(found[1].split()) if found else ""
    text = f"{lines}\n\nTakes: {inspect.getdoc(OBJECTIVES[name].take)}"
    return Page(
        "offline", name, f"coclimb train --objective {name}", (), text, _file(offline.__name__)
    )


def _of_recipe(name: str, recipe: Recipe) -> Page:
    settings = "".join(f"\n  {one}" for one in recipe.settings)
    note = f"\n\n{recipe.note.capitalize()}." if recipe.note else ""
    text = f"Source: {recipe.source}.{note}\n{settings}"
    return Page("recipe", name, f"coclimb run --recipe {name}", (), text, _file(Recipe.__module__))


def _file(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _answer(page: Page) -> Answer:
    return {
        "kind": page.kind,
        "name": page.name,
        "key": page.key,
        "needs": list(page.needs),
        "text": page.text,
        "file": page.file,
    }


def _first_sentence(text: str) -> str:
    sentence = re.split(r"(?<=[.;])\s", " ".join(text.split()), maxsplit=1)[0]
    return textwrap.shorten(sentence, SUMMARY, placeholder="...")
