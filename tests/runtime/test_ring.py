import contextlib
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.runtime import ring
from tidemill.runtime.ring import HEADER_BYTES, Ring, RingCorruptError


@pytest.fixture(autouse=True)
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "LOOKS", 20)


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


@pytest.mark.parametrize("tail", [1 << 40, 7])
def test_an_end_never_asks_what_stands_in_its_own_field(tail: int) -> None:
    writer, reader, memory = rings(256)
    for payload in (b"tide", b"mill"):
        assert writer.put(payload)
        struct.pack_into("<Q", memory, 64, tail)
        assert reader.get() == payload
        struct.pack_into("<Q", memory, 0, tail)
    assert writer.put(b"more")
    assert reader.get() == b"more"


@pytest.mark.parametrize("tail", [33, 1 << 40])
def test_a_reader_that_cannot_be_where_its_field_says_is_an_error(tail: int) -> None:
    writer, _, memory = rings(256)
    assert writer.put(b"tide")
    struct.pack_into("<Q", memory, 64, tail)
    with pytest.raises(RingCorruptError, match=f"its reader is at byte {tail}, expected 0..32"):
        writer.put(b"mill")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damage_anywhere_gives_what_was_put_or_the_ring_s_error(draw: st.DataObject) -> None:
    """Bytes change between any two calls; what comes out went in, in order."""
    writer, reader, memory = rings(256)
    put: list[bytes] = []
    got: list[bytes] = []
    try:
        for _ in range(draw.draw(st.integers(1, 12))):
            payload = draw.draw(st.binary(max_size=80))
            if writer.put(payload):
                put.append(payload)
            if draw.draw(st.booleans()):
                place, value = draw.draw(st.integers(0, HEADER_BYTES + 255)), draw.draw(st.integers(0, 255))
                memory[place] = value
            with contextlib.suppress(RingCorruptError):
                taken = reader.get()
                got += [] if taken is None else [taken]
    except RingCorruptError:
        pass
    assert got == put[: len(got)]
