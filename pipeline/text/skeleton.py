"""Questions that already carry an instruction and a tag skeleton, made bare again.

Data sets made for training with tags end each prompt like this (thinkwee/NOVER, folder dataset):

    Question: How much is 2 and 2?

    Answer the question and return in the following format:

    <think>
    ...
    </think>

    <answer>
    ...
    </answer>

Asked again under our own prompt, such a question would show two instructions, perhaps with other
tags. Any pair of tags is recognised, but only where both blocks hold a place for text and an
instruction stands right before them, all at the very end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TAIL = 2000  # characters at the end in which a skeleton is looked for

_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,40}"
_BLOCKS = re.compile(
    rf"^[ \t]*<(?P<first>{_NAME})>(?P<one>[^<>]{{0,300}})</(?P=first)>\s*"
    rf"<(?P<final>{_NAME})>(?P<two>[^<>]{{0,300}})</(?P=final)>\s*\Z",
    re.MULTILINE,
)
# what stands for text to come: nothing, dots, [a name in brackets], {one in braces}, or a word to
# whoever answers
_PLACE = re.compile(r"[\s.\u2026_-]*|.*(\[[^\]]+\]|\{[^}]+\}|\b(your|here|goes)\b).*", re.I | re.S)
_ASKS = re.compile(
    r"\b(answer|return|respond|reply|write|give|use|put|place|provide|output|format|present"
    r"|enclose|wrap|state)\b",
    re.I,
)
_SHAPE = re.compile(r"\b(formats?|tags?|templates?|structures?|forms?|layouts?|as follows)\b", re.I)
_LEAD = re.compile(r"\s*(question|q)\s*:\s*", re.I)
_SENTENCE = re.compile(r"(?<=[.?!])\s+")


@dataclass(frozen=True, slots=True)
class Stripped:
    """A bare question, and the names of the two tags its skeleton asked for."""

    question: str
    tags: tuple[str, str]


def strip_skeleton(text: str) -> Stripped | None:
    """The bare question of a text that ends in an instruction and a tag skeleton; else None.

    Blanks around the question and a "Question:" before it go too. A text that mentions tags, shows
    filled blocks, or would leave no question stays whole. Linear in the text.
    """
    if not text.rstrip().endswith(">"):
        return None
    start = max(len(text.rstrip()) - TAIL, 0)
    found = _BLOCKS.search(text, start)
    if found is None or found["first"] == found["final"]:
        return None
    if not (_PLACE.fullmatch(found["one"]) and _PLACE.fullmatch(found["two"])):
        return None
    before = _without_instruction(text[: found.start()])
    if before is None:
        return None
    lead = _LEAD.match(before)
    question = before[lead.end() if lead else 0 :].strip()
    return Stripped(question, (found["first"], found["final"])) if question else None


def _without_instruction(text: str) -> str | None:
    """The text without its last sentence, where that asks for a form of answer; else None."""
    body = text.rstrip()
    line = body.rfind("\n") + 1
    sentence = max((gap.end() for gap in _SENTENCE.finditer(body, line)), default=line)
    last = body[sentence:]
    asked = len(last) <= 400 and _ASKS.search(last) and _SHAPE.search(last)
    return body[:sentence] if asked else None
