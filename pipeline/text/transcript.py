"""The strict grammar of a completion, read in one pass over its tags.

A completion is well formed when it is, up to whitespace around the blocks,

    <first> anything </first> <final> anything that is not blank </final>

A tag is its exact characters. Upper-case, spaced, attributed or full-width look-alikes are text,
and so are all other angle brackets: content inside a block, a fault outside.

Where this differs from NOVER's whitespace-blind rule (tag_format_reward of thinkwee/NOVER):

    a blank answer                              here missing_answer       there well formed
    an opening tag inside its own block         here nested               there content
    the final block inside the first            here nested               there malformed
    tags written with spaces, around nothing    here missing_reasoning    there well formed
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.types import Form, Transcript

_Kind = Literal["open_first", "close_first", "open_final", "close_final"]
_WELL_FORMED: tuple[_Kind, ...] = ("open_first", "close_first", "open_final", "close_final")


@dataclass(frozen=True, slots=True)
class Blocks:
    """The two tag names of a completion: ("think", "answer") or ("task", "answer")."""

    first: str
    final: str

    def __post_init__(self) -> None:
        if self.first == self.final:
            raise ValueError(f"both blocks are named {self.first!r}; give them two names")

    @property
    def tags(self) -> dict[str, _Kind]:
        """Exact tag text -> its kind."""
        return {
            f"<{self.first}>": "open_first",
            f"</{self.first}>": "close_first",
            f"<{self.final}>": "open_final",
            f"</{self.final}>": "close_final",
        }


def parse(completion: str, blocks: Blocks, *, truncated: bool) -> Transcript:
    """Both blocks stripped of surrounding whitespace, or the reason why not. Total and linear.

    completion  any text at all
    truncated   the length budget ended it; then "truncated" is the reason unless the final block
                was closed in time. A budget that ends exactly at the grammar's end does no harm.

    Blank reasoning is allowed, a blank answer is missing_answer. Of several faults the first
    misplaced tag names the reason; text outside counts only where the tags themselves are right.
    """
    if not completion.strip():
        return Transcript("empty")
    tags = blocks.tags
    found = list(re.finditer("|".join(map(re.escape, tags)), completion))
    kinds = [tags[match.group()] for match in found]
    if truncated and "close_final" not in kinds:
        return Transcript("truncated")
    fault = _fault(kinds)
    if fault is not None:
        return Transcript(fault)
    start, end_first, start_final, end = found
    between = completion[end_first.end() : start_final.start()]
    outside = (completion[: start.start()], between, completion[end.end() :])
    if any(text.strip() for text in outside):
        return Transcript("text_outside")
    final = completion[start_final.end() : end.start()].strip()
    if not final:
        return Transcript("missing_answer")
    return Transcript("ok", completion[start.end() : end_first.start()].strip(), final)


def _fault(kinds: Sequence[_Kind]) -> Form | None:
    """What is wrong with the sequence of tags, told by the first that is not the expected one."""
    seat = 0
    while seat < len(kinds) and seat < 4 and kinds[seat] == _WELL_FORMED[seat]:
        seat += 1
    rest = kinds[seat:]
    if seat == 0:  # nothing opened yet
        return "reordered" if "open_first" in rest else "missing_reasoning"
    if seat == 1:  # inside the first block
        return _inside(rest, "open_first", "close_first", "open_final")
    if seat == 2:  # between the blocks
        if not rest:
            return "missing_answer"
        if rest[0] == "close_final":
            return "reordered" if "open_final" in rest else "missing_answer"
        return "repeated"
    if seat == 3:  # inside the final block
        return _inside(rest, "open_final", "close_final", "open_first")
    return "repeated" if rest else None


def _inside(rest: Sequence[_Kind], own: _Kind, close: _Kind, other: _Kind) -> Form:
    """The fault of an open block that `rest` does not close at once."""
    if rest and rest[0] == own:
        return "nested"
    if close not in rest:
        return "unclosed"
    return "nested" if rest[0] == other else "reordered"
