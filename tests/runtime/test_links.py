import os
from collections.abc import Iterator

import pytest

from tests.contracts.link import CERTAIN, LinkContract
from tidemill.actors.messages import BundlesReady
from tidemill.actors.wiring import LinkSpec
from tidemill.runtime.links.link import Link
from tidemill.runtime.links.queue_link import QueueLink
from tidemill.runtime.links.ring_link import RingLink
from tidemill.runtime.ring import HEADER_BYTES


class TestQueueLink(LinkContract):
    def make(self, spec: LinkSpec) -> tuple[Link, Link]:
        link = QueueLink(spec)
        return link, link

    def put_raw(self, writer: Link, payload: bytes) -> None:
        assert isinstance(writer, QueueLink)
        writer._queue.append(payload)


class TestRingLink(LinkContract):
    @pytest.fixture(autouse=True)
    def wake(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr("tidemill.runtime.links.ring_link.FULL_DEADLINE_S", 0.01)
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK)
        yield
        os.close(self.wake_read)
        os.close(self.wake_write)

    def make(self, spec: LinkSpec) -> tuple[Link, Link]:
        memory = memoryview(bytearray(HEADER_BYTES + spec.capacity_bytes))
        return RingLink(spec, memory, self.wake_write), RingLink(spec, memory, self.wake_write)

    def put_raw(self, writer: Link, payload: bytes) -> None:
        assert isinstance(writer, RingLink)
        assert writer._ring.put(payload)

    def test_only_a_sleeping_reader_is_woken(self) -> None:
        writer, reader = self.make(CERTAIN)
        assert isinstance(reader, RingLink)
        writer.send(BundlesReady(0, b""))
        with pytest.raises(BlockingIOError):
            os.read(self.wake_read, 1)
        reader.set_sleeping(True)
        writer.send(BundlesReady(1, b""))
        assert os.read(self.wake_read, 10) == b"\0"
