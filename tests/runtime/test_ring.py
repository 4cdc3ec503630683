import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.runtime.ring import HEADER_BYTES, Ring, RingCorruptError


def rings(capacity: int) -> tuple[Ring, Ring, bytearray]:
    memory = bytearray(HEADER_BYTES + capacity)
    return Ring("a-b", memoryview(memory)), Ring("a-b", memoryview(memory)), memory


def test_the_bytes_of_a_record_are_those_of_the_table() -> None:
    writer, _, memory = rings(128)
    assert writer.put(b"tide")
    assert struct.unpack_from("<Q", memory, 0) == (32,)  # head: one record of 16 + 4, padded to 32
    # length 4, xxh32(b"tide", seed 0), sequence 0, payload, padding
    assert memory[HEADER_BYTES : HEADER_BYTES + 32].hex() == "04000000" + "876e09d2" + "00" * 8 + "74696465" + "00" * 12


@given(
    capacity=st.integers(96, 400),
    operations=st.lists(st.one_of(st.none(), st.binary(max_size=60)), max_size=200),
)
def test_any_mix_of_puts_and_gets_keeps_every_payload_in_order(capacity: int, operations: list[bytes | None]) -> None:
    writer, reader, _ = rings(capacity)
    expected: list[bytes] = []
    for payload in operations:
        if payload is None:
            assert reader.get() == (expected.pop(0) if expected else None)
        elif writer.fits(len(payload)) and writer.put(payload):
            expected.append(payload)
    while expected:
        assert reader.get() == expected.pop(0)
    assert reader.get() is None
    assert reader.is_empty


def test_an_empty_ring_always_takes_a_payload_that_fits() -> None:
    writer, reader, _ = rings(128)
    for length in range(40):
        payload = bytes(length)
        assert writer.fits(length)
        assert writer.put(payload)
        assert reader.get() == payload


@pytest.mark.parametrize("place", [0, 2, 4, 8, 16, 19])
def test_a_damaged_record_is_an_error_not_a_message(place: int) -> None:
    writer, reader, memory = rings(256)
    writer.put(b"tide")
    memory[HEADER_BYTES + place] ^= 0x40
    with pytest.raises(RingCorruptError, match="a-b: record 0"):
        reader.get()


def test_a_record_that_is_not_all_there_yet_is_waited_for() -> None:
    """The head may be seen before the record's own bytes: it is taken when it proves itself."""
    writer, reader, memory = rings(256)
    writer.put(b"tide")
    record = bytes(memory[HEADER_BYTES : HEADER_BYTES + 32])
    memory[HEADER_BYTES : HEADER_BYTES + 32] = bytes(32)
    looks: list[int] = []
    real = reader._look

    def look(tail: int) -> tuple[bytes, int] | None:
        looks.append(tail)
        if len(looks) == 5:
            memory[HEADER_BYTES : HEADER_BYTES + 32] = record
        return real(tail)

    reader._look = look  # type: ignore[method-assign]
    assert reader.get() == b"tide"
    assert len(looks) == 5
