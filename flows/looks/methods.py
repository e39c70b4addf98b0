"""A page for every plug-in, made of the docstring it carries: what can be chosen, and by which key.

A page is the docstring of the function or class that the table names; where one docstring tells
several names (an offline objective, an aggregate, a correction, a gate), the lines that it gives to
the name and what stands behind them; of a recipe its settings and where they are from.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast, get_args

from agents.verifiers import METERS
from flows.errors import Refusal
from flows.looks.listing import table
from flows.looks.report import as_json, console, shown
from pipeline import offline
from pipeline.advantages import ADVANTAGES
from pipeline.objectives import DIVERGENCES, correction
from pipeline.offline import OBJECTIVES
from pipeline.recipes import RECIPES, Recipe
from pipeline.rewards import REWARDS
from pipeline.rewards.noise import backward, flip, forward_weights
from pipeline.rewards.readings import admits
from pipeline.rewards.transforms import TRANSFORMS
from pipeline.settings import objective as objective_config
from pipeline.settings.objective import ObjectiveConfig
from pipeline.settings.reward import RewardConfig, RewardName
from pipeline.settings.section import Section
from pipeline.surrogates import SURROGATES
from store.questions import Answer

SUMMARY = 76  # characters of the first sentence that a listing shows
# a name, indented by four, two blanks or more, and its text with the lines that hang below it
ENTRY = re.compile(r"^    (\w+) +(.+\n(?:     +.+\n)*)", re.MULTILINE)


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
    transforms = {name: made for name, made in TRANSFORMS.items() if name != "none"}
    told = inspect.getdoc(objective_config) or ""
    return [
        *_pages("meter", "verifier.also", METERS),
        *_pages("reward", "reward.name", rewards),
        *_entries("gate", "reward.gate", RewardConfig, _doc(admits)),
        Page("noise", "noise", "reward.noise", (), *_doc(flip)),
        *_pages("noise", "reward.correction", {"backward": backward, "forward": forward_weights}),
        *_pages("transform", "reward.transform", transforms),
        *_pages("advantage", "objective.advantage", ADVANTAGES),
        *_pages("surrogate", "objective.surrogate", SURROGATES),
        *_entries("correction", "objective.correction", ObjectiveConfig, _doc(correction)),
        *_entries(
            "aggregate",
            "objective.aggregate",
            ObjectiveConfig,
            (told, _file(objective_config.__name__)),
        ),
        *_pages("divergence", "objective.divergence", DIVERGENCES),
        *(_of_objective(name) for name in OBJECTIVES),
        *(_of_recipe(name, recipe) for name, recipe in RECIPES.items()),
    ]


def _doc(call: Callable[..., object]) -> tuple[str, str]:
    """A docstring and the file it stands in."""
    return inspect.getdoc(call) or "", _file(call.__module__)


def _entries(kind: str, key: str, section: type[Section], told: tuple[str, str]) -> Iterator[Page]:
    """A page for each choice of a key but "none": its own lines, then what stands behind all."""
    text, file = told
    behind = text[max((one.end() for one in ENTRY.finditer(text)), default=0) :].strip()
    for name in get_args(section.model_fields[key.partition(".")[2]].annotation):
        if name != "none":
            page = f"{name}: {_entry(text, name)}\n\n{behind}"
            yield Page(kind, name, f"{key} = {name!r}", (), page, file)


def _entry(text: str, name: str) -> str:
    """The indented lines that a docstring gives to a name, as one; "" where it has none."""
    found = next((one for one in ENTRY.finditer(text) if one[1] == name), None)
    return " ".join(found[2].split()) if found else ""


def _pages(kind: str, key: str, made: Mapping[str, Callable[..., object]]) -> Iterator[Page]:
    for name, call in made.items():
        needs = REWARDS[cast(RewardName, name)].needs if kind == "reward" else ()
        text = inspect.getdoc(call) or ""
        yield Page(kind, name, f"{key} = {name!r}", needs, text, _file(call.__module__))


def _of_objective(name: str) -> Page:
    """An offline objective: its lines in its file's docstring, then what it takes of a group."""
    told = inspect.getdoc(offline) or ""
    text = f"{_entry(told, name)}\n\nTakes: {inspect.getdoc(OBJECTIVES[name].take)}"
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
