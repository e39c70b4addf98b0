"""A page for every plug-in, made of the docstring it carries: what can be chosen, and by which key.

A page is the function's own docstring. Where that is a sentence alone, the line that its file's
docstring gives to the name comes first.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flows.errors import Refusal
from flows.listing import table
from flows.report import as_json, console, shown
from pipeline.advantages import ADVANTAGES
from pipeline.objectives import DIVERGENCES
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
    needs = {str(name): reward.needs for name, reward in REWARDS.items()}
    return [
        *_pages("reward", "reward.name", rewards, needs),
        *_pages("advantage", "objective.advantage", ADVANTAGES, {}),
        *_pages("surrogate", "objective.surrogate", SURROGATES, {}),
        *_pages("divergence", "objective.divergence", DIVERGENCES, {}),
    ]


def _pages(
    kind: str,
    key: str,
    made: Mapping[str, Callable[..., object]],
    needs: Mapping[str, tuple[str, ...]],
) -> Iterator[Page]:
    for name, call in made.items():
        text = inspect.getdoc(call) or ""
        file = inspect.getmodule(inspect.unwrap(call))
        place = file.__name__.replace(".", "/") + ".py" if file else ""
        yield Page(kind, name, f"{key} = {name!r}", needs.get(name, ()), text, place)


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
