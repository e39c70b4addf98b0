"""How much of a text repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

N_GRAM = 4


def repeated_share(tokens: Sequence[int], size: int = N_GRAM) -> float:
    """Share of the runs of `size` tokens that occurred before in the same text, in [0, 1).

    0 where there is no such run; one token L times gives (L - size) / (L - size + 1). Runs that
    overlap count, and which tokens repeat does not matter. Linear in the length.
    """
    if size < 1:
        raise ValueError(f"runs of {size} tokens; expected 1 or more")
    runs = list(zip(*(tokens[start:] for start in range(size)), strict=False))
    return 1.0 - len(set(runs)) / len(runs) if runs else 0.0
