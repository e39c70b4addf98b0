"""Near-duplicate questions: candidates by MinHash, each confirmed by its exact likeness.

MinHash with locality-sensitive bands (Broder 1997; ekzhu/datasketch) finds pairs in time linear in
the number of texts. It may miss a pair, at most one in a thousand at the threshold and fewer above
it; it never makes one up, since every candidate is compared shingle by shingle.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

from pipeline.curriculum import likeness, shingles
from pipeline.text.answers import normalise

PERMUTATIONS = 128
MISSED = 1e-3  # largest share of pairs at the threshold that no band brings together
Pair = tuple[int, int, float]  # a text of one side, its nearest of the other, their likeness


def nearest_pairs(texts: Sequence[str], others: Sequence[str], threshold: float) -> list[Pair]:
    """For each text that is like one of the others: its seat, the seat of the nearest, how like.

    threshold: in (0, 1]; pairs below it are not told. Of equals the first is named.
    """
    index, prints = _index(others, threshold), _prints(texts)
    found = [
        _nearest(text, index.query(own), others) for text, own in zip(texts, prints, strict=True)
    ]
    return [(n, *one) for n, one in enumerate(found) if one is not None and one[1] >= threshold]


def earlier_pairs(texts: Sequence[str], threshold: float) -> list[Pair]:
    """For each text that is like an earlier one: its seat, the seat of the nearest, how like."""
    prints = _prints(texts)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
    pairs: list[Pair] = []
    for seat, own in enumerate(prints):
        one = _nearest(texts[seat], index.query(own), texts)
        if one is not None and one[1] >= threshold:
            pairs.append((seat, *one))
        index.insert(seat, own)
    return pairs


def bands(threshold: float) -> tuple[int, int]:
    """Bands and rows of a band: the most rows under which a pair at the threshold is not missed.

    A pair of likeness s meets in one of b bands of r rows with probability 1 - (1 - s^r)^b.
    """
    for rows in range(PERMUTATIONS // 2, 1, -1):  # one band alone is no choice of bands
        count = PERMUTATIONS // rows
        if (1 - threshold**rows) ** count <= MISSED:
            return count, rows
    return PERMUTATIONS, 1


def _nearest(text: str, seats: Sequence[int], others: Sequence[str]) -> tuple[int, float] | None:
    alike = [(-likeness(text, others[seat]), seat) for seat in seats]
    return (min(alike)[1], -min(alike)[0]) if alike else None


def _index(texts: Sequence[str], threshold: float) -> MinHashLSH:
    index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
    for seat, own in enumerate(_prints(texts)):
        index.insert(seat, own)
    return index


def _prints(texts: Sequence[str]) -> list[MinHash]:
    """The texts' fingerprints; the same in every process, for its permutations have one seed."""
    rows = ([" ".join(one).encode("utf-8", "surrogatepass") for one in _own(t)] for t in texts)
    return list(MinHash.generator(rows, num_perm=PERMUTATIONS, seed=1))


def _own(text: str) -> list[tuple[str, ...]]:
    return shingles(normalise(text))
