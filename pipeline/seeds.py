"""Where every random stream comes from: a hash of what it is for, never of when it was asked."""

from __future__ import annotations

import hashlib


def seed_of(*place: int | str) -> int:
    """A 63-bit seed from its place, such as (run seed, round, "attempt", item, sample)."""
    text = "\x1f".join(str(part) for part in place)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
