"""What is done to valid bytes: bits flipped, parts cut, doubled and spliced, lengths replaced by absurd ones."""

import os
import struct
from collections.abc import Sequence

from hypothesis import strategies as st

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
DEEP_FACTOR = 200
LENGTHS = [0, 1, 0x7F, 0xFF, 0xFFFF, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
NUMBERS = [b"-1", b"0", b"1e999", b"NaN", b"9" * 30, b"1.5", b"null", b'"x"', b"[]", b"{}", b"true", b"[" * 2000]


def examples(count: int) -> int:
    """How many a test is given: a few that take no time, or many under the profile `deep`."""
    return count * (DEEP_FACTOR if DEEP else 1)


def hostile(valid: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Any bytes, or valid ones after a few changes."""
    changed = st.builds(_change_all, st.sampled_from(valid), st.lists(_changes(), min_size=1, max_size=5))
    return st.one_of(changed, changed, st.binary(max_size=200))


Change = tuple[str, int, int]


def _changes() -> st.SearchStrategy[Change]:
    kinds = st.sampled_from(["flip", "set", "cut", "drop", "double", "u32", "u64", "number"])
    # Formats keep what they promise at their beginning, so half of the changes are made there.
    places = st.one_of(st.integers(0, 400), st.integers(0, 1 << 24))
    return st.tuples(kinds, places, st.integers(0, 1 << 16))


def _change_all(data: bytes, changes: Sequence[Change]) -> bytes:
    for change in changes:
        data = _change(data, change)
    return data


def _change(data: bytes, change: Change) -> bytes:
    kind, place, value = change
    if not data:
        return data
    place %= len(data)
    before, after = data[:place], data[place:]
    match kind:
        case "flip":
            return before + bytes([after[0] ^ 1 << value % 8]) + after[1:]
        case "set":
            return before + bytes([value & 0xFF]) + after[1:]
        case "cut":
            return before
        case "drop":
            return before + after[1 + value % 64 :]
        case "double":
            return before + after[: 1 + value % 256] + after
        case "u32":
            return before + struct.pack("<I", LENGTHS[value % 8]) + after[4:]
        case "u64":
            return before + struct.pack("<Q", LENGTHS[value % len(LENGTHS)]) + after[8:]
        case _:
            return _replace_number(data, place, NUMBERS[value % len(NUMBERS)])


def _replace_number(data: bytes, place: int, number: bytes) -> bytes:
    """The next decimal number of a text, if there is one near, becomes another value."""
    for start in range(place, min(place + 200, len(data))):
        if data[start : start + 1].isdigit():
            stop = start
            while data[stop : stop + 1].isdigit():
                stop += 1
            return data[:start] + number + data[stop:]
    return data
