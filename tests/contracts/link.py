"""What every link must do."""

import msgspec
import pytest

from tidemill.actors.messages import ActorName, BundlesReady, BundlesUnavailable, Message, StepProgressed, TokensSampled
from tidemill.actors.wiring import LinkSpec
from tidemill.runtime.links.link import Link, LinkError

CERTAIN = LinkSpec(ActorName.ARENA, ActorName.COMPUTE, BundlesReady | BundlesUnavailable, 4096)
BAD_TEXT = msgspec.msgpack.encode(BundlesUnavailable(1, "text")).replace(b"text", b"\xff\xfe\xfd\xfc")
SPECULATIVE = LinkSpec(ActorName.COMPUTE, ActorName.ENGINE, TokensSampled | StepProgressed, 4096, (StepProgressed,))


class LinkContract:
    def make(self, spec: LinkSpec) -> tuple[Link, Link]:
        """(the writer's end, the reader's end), which may be one object."""
        raise NotImplementedError

    def put_raw(self, writer: Link, payload: bytes) -> None:
        """Bytes that are no message."""
        raise NotImplementedError

    def test_messages_arrive_once_in_order_and_equal(self) -> None:
        writer, reader = self.make(CERTAIN)
        sent: list[Message] = []
        received: list[Message] = []
        for i in range(500):
            message = BundlesReady(i, bytes(i % 200)) if i % 3 else BundlesUnavailable(i, "x" * (i % 90))
            sent.append(message)
            assert writer.send(message)
            if i % 7 == 0:
                while (got := reader.receive()) is not None:
                    received.append(got)
        while (got := reader.receive()) is not None:
            received.append(got)
        assert received == sent
        assert reader.receive() is None

    def test_a_droppable_message_is_dropped_and_counted_when_full(self) -> None:
        writer, reader = self.make(SPECULATIVE)
        sent = 0
        while writer.send(StepProgressed(sent, 0, 0)):
            sent += 1
        assert sent > 50
        assert not writer.send(StepProgressed(1, 0, 0))
        assert writer.dropped == 2
        first = reader.receive()
        assert first == StepProgressed(0, 0, 0)

    def test_a_certain_message_on_a_full_link_ends_in_an_error_that_names_it(self) -> None:
        writer, _ = self.make(CERTAIN)
        with pytest.raises(LinkError, match=r"arena-compute .*full .*4\d\d\d bytes"):
            for i in range(1000):
                writer.send(BundlesReady(i, bytes(60)))

    def test_a_message_that_never_fits_is_refused(self) -> None:
        writer, _ = self.make(CERTAIN)
        with pytest.raises(ValueError, match="does not fit"):
            writer.send(BundlesReady(0, bytes(5000)))

    @pytest.mark.parametrize("payload", [b"", b"\xc1", msgspec.msgpack.encode([999, 1]), b"\x93\x32\x01", BAD_TEXT])
    def test_bytes_that_are_no_message_are_an_error_that_names_the_link(self, payload: bytes) -> None:
        writer, reader = self.make(CERTAIN)
        self.put_raw(writer, payload)
        with pytest.raises(LinkError, match="arena-compute"):
            reader.receive()
