"""Whole messages over a socket between a stress command and the processes of its jobs: length-prefixed msgpack."""

import select
import socket
import struct
from typing import Generic, TypeVar

import msgspec

LENGTH = struct.Struct("<I")
Got = TypeVar("Got")


class PeerGoneError(EOFError):
    """The other end is closed. Not to be taken for an EOFError of a job."""


class FrameSocket(Generic[Got]):
    """One end, which decodes what it gets as `union`. Both ends are this program: frames are taken as they come."""

    def __init__(self, sock: socket.socket, union: type[Got]) -> None:
        """Takes `sock` over."""
        self._socket = sock
        self._buffer = bytearray()
        self._decoder = msgspec.msgpack.Decoder(union)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: msgspec.Struct) -> None:
        """Raises OSError when the peer is gone."""
        payload = msgspec.msgpack.encode(message)
        self._socket.sendall(LENGTH.pack(len(payload)) + payload)

    def receive(self, timeout_s: float | None) -> Got | None:
        """The next message; None when none came in time. Raises PeerGoneError."""
        self._socket.settimeout(timeout_s)
        try:
            while (message := self._take()) is None:
                data = self._socket.recv(65536)
                if not data:
                    raise PeerGoneError("the other end of a job is gone")
                self._buffer += data
            return message
        except (TimeoutError, BlockingIOError):
            return None
        except ConnectionError as error:
            raise PeerGoneError(str(error)) from None
        finally:
            self._socket.settimeout(None)

    def is_readable(self) -> bool:
        """Whether something is there, the peer's end too."""
        return bool(self._buffer) or bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        self._socket.close()

    def _take(self) -> Got | None:
        if len(self._buffer) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._buffer)
        if len(self._buffer) < LENGTH.size + length:
            return None
        payload = bytes(self._buffer[LENGTH.size : LENGTH.size + length])
        del self._buffer[: LENGTH.size + length]
        return self._decoder.decode(payload)
