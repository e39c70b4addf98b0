from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.blobs import (
    from_raw,
    pack_flags,
    pack_floats,
    pack_ints,
    raw_text,
    readable,
    unpack_flags,
    unpack_floats,
    unpack_ints,
)

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_ints_come_back(values: list[int]) -> None:
    assert unpack_ints(pack_ints(values)) == tuple(values)


@given(st.lists(st.booleans()))
def test_flags_come_back(values: list[bool]) -> None:
    assert unpack_flags(pack_flags(values)) == tuple(values)


@given(st.lists(FLOATS) | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_floats_come_back_bit_for_bit(values: list[float]) -> None:
    back = unpack_floats(pack_floats(values))
    assert [struct.pack("<d", x) for x in back] == [struct.pack("<d", x) for x in values]


def test_floats_take_four_bytes_only_where_that_is_exact() -> None:
    assert pack_floats([0.5, -0.25]) == b"f" + struct.pack("<2f", 0.5, -0.25)
    assert pack_floats([0.1, 0.5]) == b"d" + struct.pack("<2d", 0.1, 0.5)
    assert pack_floats([1e300]) == b"d" + struct.pack("<d", 1e300)


def test_flags_are_lengths_of_runs_beginning_with_false() -> None:
    assert pack_flags([False, False, True]) == b"r" + struct.pack("<2i", 2, 1)
    assert pack_flags([True, True, False]) == b"r" + struct.pack("<3i", 0, 2, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="non-finite"):
        pack_floats([0.0, value])


def test_a_blob_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'f'"):
        unpack_ints(pack_floats([1.0]))


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_comes_back_from_its_bytes_and_reads_without_controls(text: str) -> None:
    assert from_raw(raw_text(text)) == text
    shown = readable(text)
    shown.encode("utf-8")
    assert "\x00" not in shown
    assert "\x1b" not in shown


def test_readable_text_marks_what_it_could_not_show_and_keeps_the_rest() -> None:
    assert readable("a\x00b\ud800\x1b[0m\tc\n") == "a\ufffdb\ufffd\ufffd[0m\tc\n"
    assert readable("e\u0301") == "\u00e9"
