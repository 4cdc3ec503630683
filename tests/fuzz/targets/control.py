"""Frames on a control socket."""

import socket

import msgspec

from tidemill.runtime.control import LENGTH, ControlSocket, Failed, Hello, PeerGoneError, Ready, Stop

MESSAGES = (Hello(7), Ready(), Stop(True), Failed("what", "trace\nback", ("Read", "Read")))
SENT_MAX = 1 << 16  # what a socket takes without a reader


def _frame(message: msgspec.Struct) -> bytes:
    payload = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(payload)) + payload


def seeds() -> list[bytes]:
    return [b"".join(map(_frame, MESSAGES)), *map(_frame, MESSAGES)]


def check(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data[:SENT_MAX])
        ours.shutdown(socket.SHUT_WR)
        control = ControlSocket(theirs)
        try:
            for _ in range(len(data) + 1):
                assert control.receive(0) is not None
        except PeerGoneError as error:
            assert str(error)
            return
    raise AssertionError("more messages than bytes")
