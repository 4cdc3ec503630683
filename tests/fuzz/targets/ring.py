"""A ring's memory that something else writes to: what comes out went in, in order, or the ring says that it is damaged.

The input is a row of steps of 4 bytes: what to do, two bytes of a place, a value.
"""

from tidemill.runtime import ring
from tidemill.runtime.ring import HEADER_BYTES, Ring, RingCorruptError

CAPACITY = 512
LOOKS = 5  # not the thousands that a slow writer is given


def seeds() -> list[bytes]:
    return [bytes([0, 20, 0, 7, 1, 0, 0, 0] * 40), bytes([0, 90, 0, 7, 0, 3, 0, 9, 1, 0, 0, 0, 2, 64, 0, 8] * 10)]


def check(data: bytes) -> None:
    ring.LOOKS = LOOKS
    memory = bytearray(HEADER_BYTES + CAPACITY)
    writer, reader = Ring("a-b", memoryview(memory)), Ring("a-b", memoryview(memory))
    put: list[bytes] = []
    taken = 0
    try:
        for at in range(0, len(data) - 3, 4):
            place = data[at + 1] | data[at + 2] << 8
            if data[at] % 3 == 0:
                payload = bytes([data[at + 3]]) * (place % 200)
                if writer.put(payload):
                    put.append(payload)
            elif data[at] % 3 == 1:
                got = reader.get()
                if got is not None:
                    assert got == put[taken]
                    taken += 1
            else:
                memory[place % len(memory)] = data[at + 3]
    except RingCorruptError as error:
        assert str(error)
