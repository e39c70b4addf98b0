"""When an answer says the same as a reference, in text alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_CLOSING = " .!?,;:\u3002\u3001\u061f\u06d4\u0964"  # Latin, CJK, Arabic and Devanagari


def normalise(text: str) -> str:
    """NFKC, case-folded, single-spaced, without closing punctuation; articles stay.

    Full-width forms become plain ones. Signs that carry meaning ("50%", "-3") are kept.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split()).rstrip(_CLOSING)


def matches(answer: str, reference: str) -> bool:
    """True where both say the same after normalisation; an empty answer matches nothing."""
    said = normalise(answer)
    return bool(said) and said == normalise(reference)


def matches_any(answer: str, references: Sequence[str]) -> bool:
    """True where the answer says the same as one of the references."""
    return any(matches(answer, reference) for reference in references)
