import socket
from collections.abc import Iterator

import pytest

from tidemill.runtime.control import (
    FRAME_BYTES_MAX,
    LENGTH,
    ControlSocket,
    Failed,
    Hello,
    PeerGoneError,
    Ready,
    Stop,
)

BAD_TEXT = LENGTH.pack(8) + b"\x94\x06\xa2\xff\xfe\xa1t\x90"  # Failed
Pair = tuple[socket.socket, ControlSocket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """(a plain socket, the control socket at its other end)"""
    raw, other = socket.socketpair()
    control = ControlSocket(other)
    yield raw, control
    raw.close()
    control.close()


def test_messages_arrive_in_order_and_equal(pair: Pair) -> None:
    raw, control = pair
    sender = ControlSocket(raw)
    sent = [Hello(7), Ready(), Failed("what", "trace\nback", ("Read", "Read")), Stop(True)]
    for message in sent:
        sender.send(message)
    assert [control.receive(0) for _ in sent] == sent
    assert control.receive(0) is None


def test_a_frame_that_comes_byte_by_byte_is_waited_for(pair: Pair) -> None:
    raw, control = pair
    writer, reader = socket.socketpair()
    ControlSocket(writer).send(Hello(7))
    frame = reader.recv(100)
    writer.close()
    reader.close()
    for byte in frame[:-1]:
        raw.sendall(bytes([byte]))
        assert control.receive(0) is None
    raw.sendall(frame[-1:])
    assert control.receive(0) == Hello(7)


def test_what_was_sent_before_the_end_is_still_received(pair: Pair) -> None:
    raw, control = pair
    ControlSocket(raw).send(Ready())
    raw.shutdown(socket.SHUT_WR)
    assert control.receive(0) == Ready()
    with pytest.raises(PeerGoneError, match="closed"):
        control.receive(0)


@pytest.mark.parametrize(
    "frame", [BAD_TEXT, LENGTH.pack(2) + b"\xc1\xc1", LENGTH.pack(1) + b"\x90", LENGTH.pack(FRAME_BYTES_MAX + 1)]
)
def test_a_frame_that_is_none_of_ours_ends_the_talk(pair: Pair, frame: bytes) -> None:
    raw, control = pair
    raw.sendall(frame)
    with pytest.raises(PeerGoneError, match="none of ours"):
        control.receive(0)
