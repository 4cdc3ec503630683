"""A link between processes: a ring in shared memory and the reader's wake FIFO."""

import os
import time

import msgspec

from tidemill.actors.messages import Message
from tidemill.actors.wiring import LinkSpec, WhenFull
from tidemill.runtime.links.link import LinkError
from tidemill.runtime.ring import Ring, RingCorruptError

FULL_DEADLINE_S = 10.0
FULL_NAP_S = 0.0002


class RingLink:
    """Implements Link; each process uses one end. The writer writes a byte to the FIFO only while the reader sleeps."""

    def __init__(self, spec: LinkSpec, memory: memoryview, wake_fd: int) -> None:
        self._spec = spec
        self._ring = Ring(spec.name, memory)
        self._wake_fd = wake_fd
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(spec.union)

    @property
    def dropped(self) -> int:
        return self._ring.dropped

    @property
    def is_empty(self) -> bool:
        return self._ring.is_empty

    def set_sleeping(self, sleeping: bool) -> None:
        self._ring.set_sleeping(sleeping)

    def send(self, message: Message) -> bool:
        payload = self._encoder.encode(message)
        if not self._put(payload):
            if self._spec.when_full(message) is WhenFull.DROP:
                self._ring.count_drop()
                return False
            self._wait_for_room(payload)
        if self._ring.is_reader_sleeping:
            self._wake()
        return True

    def receive(self) -> Message | None:
        try:
            payload = self._ring.get()
            return None if payload is None else self._decoder.decode(payload)
        except (RingCorruptError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise LinkError(f"link {self._spec.name}: {error}") from None

    def _put(self, payload: bytes) -> bool:
        """Raises LinkError, ValueError."""
        try:
            return self._ring.put(payload)
        except RingCorruptError as error:
            raise LinkError(str(error)) from None

    def _wait_for_room(self, payload: bytes) -> None:
        deadline = time.monotonic() + FULL_DEADLINE_S
        while not self._put(payload):
            if time.monotonic() > deadline:
                raise LinkError(
                    f"link {self._spec.name} has been full ({self._ring.capacity_bytes} bytes) for "
                    f"{FULL_DEADLINE_S:.0f} s: "
                    f"{self._spec.reader} does not read"
                )
            self._wake()
            time.sleep(FULL_NAP_S)

    def _wake(self) -> None:
        try:
            os.write(self._wake_fd, b"\0")
        except BlockingIOError:
            pass  # wake-ups enough are in the FIFO
