"""A link inside one process: a bounded deque of encoded messages, so that both launchers carry the very same bytes."""

from collections import deque

import msgspec

from tidemill.actors.messages import Message
from tidemill.actors.wiring import LinkSpec, WhenFull
from tidemill.runtime.links.link import LinkError


class QueueLink:
    """Implements Link. Writer and reader share a thread, so a full certain link can't wait: it is an error at once."""

    def __init__(self, spec: LinkSpec) -> None:
        self._spec = spec
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(spec.union)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def send(self, message: Message) -> bool:
        payload = self._encoder.encode(message)
        if len(payload) > self._spec.capacity_bytes // 2:
            raise ValueError(
                f"link {self._spec.name}: a message of {len(payload)} bytes does not fit a link of "
                f"{self._spec.capacity_bytes}"
            )
        if self._bytes + len(payload) > self._spec.capacity_bytes:
            if self._spec.when_full(message) is WhenFull.DROP:
                self.dropped += 1
                return False
            raise LinkError(
                f"link {self._spec.name} is full ({self._spec.capacity_bytes} bytes) and its reader is this very thread"
            )
        self._queue.append(payload)
        self._bytes += len(payload)
        return True

    def receive(self) -> Message | None:
        if not self._queue:
            return None
        payload = self._queue.popleft()
        self._bytes -= len(payload)
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise LinkError(f"link {self._spec.name}: {len(payload)} bytes are no message of it: {error}") from None
