"""Compact, exact bytes for what a row keeps by the hundred: token ids, flags, log-probabilities.

The first byte tells the kind: i int32 (I where zlib made it smaller), r the lengths of runs of
flags, the first of them false, f float32, d float64, all little-endian. Floats take 4 bytes each
only if that is exact; they are not compressed, since log-probabilities look like noise to zlib.
"""

from __future__ import annotations

import math
import sys
import unicodedata
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby

_COMPRESS_FROM = 48  # bytes; below, zlib's header eats the gain


def pack_ints(values: Sequence[int]) -> bytes:
    """Token ids, each within int32. Raises OverflowError beyond."""
    body = little_endian(array("i", values))
    small = zlib.compress(body, 1) if len(body) >= _COMPRESS_FROM else body
    return b"I" + small if len(small) < len(body) else b"i" + body


def pack_flags(values: Sequence[bool]) -> bytes:
    runs = [(flag, len(list(run))) for flag, run in groupby(values)]
    lengths = [length for _, length in runs]
    return b"r" + little_endian(array("i", [0, *lengths] if runs and runs[0][0] else lengths))


def pack_floats(values: Sequence[float]) -> bytes:
    """Finite floats, bit for bit. Raises ValueError for NaN or an infinity."""
    if not all(map(math.isfinite, values)):
        raise ValueError("a non-finite number may not be stored; record a status instead")
    wide = array("d", values)
    small = array("f", wide)
    kept = small if array("d", small).tobytes() == wide.tobytes() else wide
    return kept.typecode.encode() + little_endian(kept)


def unpack_ints(data: bytes) -> tuple[int, ...]:
    return tuple(map(int, _open(data, "iI")))


def unpack_flags(data: bytes) -> tuple[bool, ...]:
    flags: tuple[bool, ...] = ()
    for n, length in enumerate(map(int, _open(data, "r"))):
        flags += (n % 2 == 1,) * length
    return flags


def count_flags(data: bytes) -> int:
    """How many of the flags are true, without unpacking them."""
    return sum(map(int, _open(data, "r")[1::2]))


def unpack_floats(data: bytes) -> tuple[float, ...]:
    return tuple(_open(data, "fd").tolist())


def little_endian(values: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _open(data: bytes, kinds: str) -> array[int] | array[float]:
    kind, body = chr(data[0]), data[1:]
    if kind not in kinds:
        raise ValueError(f"blob of kind {kind!r} where one of {kinds!r} was expected")
    values: array[int] | array[float] = array(kind) if kind in "fd" else array("i")
    values.frombytes(zlib.decompress(body) if kind == "I" else body)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def raw_text(text: str) -> bytes:
    """The text as bytes that give it back exactly, lone surrogates and NUL included."""
    return text.encode("utf-8", "surrogatepass")


def from_raw(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def readable(text: str) -> str:
    """The text as any database can hold and show it: NFC, and U+FFFD for what cannot be shown."""
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", "".join(_shown(text)))


def _shown(text: str) -> Iterable[str]:
    for letter in text:
        hidden = unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"
        yield "\ufffd" if hidden else letter
