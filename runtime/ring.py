"""A byte queue in shared memory with one writer and one reader, and no lock.

    offset  size  owner   field
    0       8     writer  head: bytes ever put
    64      8     reader  tail: bytes ever taken
    128     8     reader  sleeping: 1 while the reader waits to be woken
    192     8     writer  dropped: messages given up because the ring was full
    256     …     writer  records, each on a multiple of 16, never across the end

    record: u32 length · u32 checksum (xxh32 of the payload, seeded with the sequence) · u64 sequence · payload ·
    padding A length of 0xFFFFFFFF is a skip: the next record is at the start of the data.

Python promises no order of stores between processes, so a record proves itself: the reader takes it only when its
sequence and checksum are right, and looks again for a while when they are not. Each end knows its own field and only
tells it: what stands there in memory is never asked for.
"""

import struct

import xxhash

HEADER_BYTES = 256
RECORD = struct.Struct("<IIQ")
ALIGN = 16
SKIP = 0xFFFFFFFF
LOOKS = 10_000  # how often a record that does not prove itself is looked at again


class RingCorruptError(RuntimeError):
    """A record stays wrong: something else wrote to the ring's memory."""


class Ring:
    """Either end. The writer calls only `put` and `count_drop`, the reader only `get` and `set_sleeping`."""

    def __init__(self, name: str, memory: memoryview) -> None:
        self._name = name
        self._words = memory[:HEADER_BYTES].cast("Q")
        self._data = memory[HEADER_BYTES:]
        self._capacity = len(self._data) // ALIGN * ALIGN
        self._sequence = 0
        self._own = 0  # a writer's head, a reader's tail

    @property
    def capacity_bytes(self) -> int:
        return self._capacity

    @property
    def dropped(self) -> int:
        return self._words[24]

    def fits(self, length: int) -> bool:
        """Whether a payload of this length can ever be put."""
        return _record_bytes(length) <= self._capacity // 2

    def put(self, payload: bytes) -> bool:
        """False when there is no room now. Raises ValueError for a payload that never fits, RingCorruptError."""
        if not self.fits(len(payload)):
            raise ValueError(
                f"link {self._name}: a message of {len(payload)} bytes does not fit a ring of {self._capacity}"
            )
        size = _record_bytes(len(payload))
        head, tail = self._own, self._words[8]
        if not 0 <= head - tail <= self._capacity:
            raise RingCorruptError(
                f"link {self._name}: its reader is at byte {tail}, expected {max(0, head - self._capacity)}..{head}; "
                "the cell has to be restarted"
            )
        at = head % self._capacity
        skipped = self._capacity - at if at + size > self._capacity else 0
        if head + skipped + size - tail > self._capacity:
            return False
        if skipped:
            RECORD.pack_into(self._data, at, SKIP, 0, self._sequence)
            at = 0
        checksum = xxhash.xxh32_intdigest(payload, self._sequence & 0xFFFFFFFF)
        self._data[at + RECORD.size : at + RECORD.size + len(payload)] = payload
        RECORD.pack_into(self._data, at, len(payload), checksum, self._sequence)
        self._sequence += 1
        self._words[0] = self._own = head + skipped + size
        return True

    def get(self) -> bytes | None:
        """The next payload, or None. Raises RingCorruptError."""
        tail = self._own
        if self._words[0] == tail:
            return None
        for _ in range(LOOKS):
            taken = self._look(tail)
            if taken is not None:
                payload, advance = taken
                self._sequence += 1
                self._words[8] = self._own = tail + advance
                return payload
        raise RingCorruptError(
            f"link {self._name}: record {self._sequence} at byte {tail % self._capacity} is damaged; the cell has "
            "to be restarted"
        )

    def _look(self, tail: int) -> tuple[bytes, int] | None:
        at, skipped = tail % self._capacity, 0
        length, checksum, sequence = RECORD.unpack_from(self._data, at)
        if length == SKIP and sequence == self._sequence:
            skipped, at = self._capacity - at, 0
            length, checksum, sequence = RECORD.unpack_from(self._data, at)
        if sequence != self._sequence or at + RECORD.size + length > self._capacity:
            return None
        payload = bytes(self._data[at + RECORD.size : at + RECORD.size + length])
        if xxhash.xxh32_intdigest(payload, sequence & 0xFFFFFFFF) != checksum:
            return None
        return payload, skipped + _record_bytes(length)

    @property
    def is_empty(self) -> bool:
        return self._words[0] == self._words[8]

    @property
    def is_reader_sleeping(self) -> bool:
        return self._words[16] != 0

    def set_sleeping(self, sleeping: bool) -> None:
        self._words[16] = int(sleeping)

    def count_drop(self) -> None:
        self._words[24] += 1


def _record_bytes(length: int) -> int:
    return -(-(RECORD.size + length) // ALIGN) * ALIGN
