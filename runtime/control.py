"""Control messages between a host and its launcher, over one socket pair per actor: length-prefixed msgpack frames.

End-of-file is the sentinel: each side learns of the other's death by it.
"""

import socket
import struct

import msgspec

from tidemill.runtime.cell_spec import CellRegions, CellSpec

LENGTH = struct.Struct("<I")
FRAME_BYTES_MAX = 64 << 20


class _Control(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Hello(_Control, frozen=True, tag=1):
    """The process is up and has imported what it needs."""

    process_id: int


class Start(_Control, frozen=True, tag=2):
    spec: CellSpec
    regions: CellRegions


class Ready(_Control, frozen=True, tag=3):
    """The actor is built and its first messages are sent."""


class Stop(_Control, frozen=True, tag=4):
    drain: bool


class Stopped(_Control, frozen=True, tag=5):
    pass


class Failed(_Control, frozen=True, tag=6):
    """The actor ended with an error. `last_messages` are the names of the messages that it handled last, oldest
    first."""

    what: str
    traceback: str
    last_messages: tuple[str, ...]


ControlMessage = Hello | Start | Ready | Stop | Stopped | Failed


class PeerGoneError(EOFError):
    """The other end is closed, or sends what is no control message. Not to be taken for an EOFError of an actor."""


class ControlSocket:
    """One end. Frames are whole or the peer is gone: `receive` raises PeerGoneError then."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._decoder: msgspec.msgpack.Decoder[ControlMessage] = msgspec.msgpack.Decoder(ControlMessage)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: ControlMessage) -> None:
        """Raises OSError when the peer is gone."""
        payload = msgspec.msgpack.encode(message)
        self._socket.sendall(LENGTH.pack(len(payload)) + payload)

    def receive(self, timeout_s: float | None) -> ControlMessage | None:
        """The next message; None when none came in time. Raises PeerGoneError."""
        self._socket.settimeout(timeout_s)
        try:
            while (message := self._take()) is None:
                data = self._socket.recv(65536)
                if not data:
                    raise PeerGoneError("the control socket was closed")
                self._buffer += data
            return message
        except (TimeoutError, BlockingIOError):
            return None
        except ConnectionError as error:
            raise PeerGoneError(str(error)) from None
        finally:
            self._socket.settimeout(None)

    def _take(self) -> ControlMessage | None:
        if len(self._buffer) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._buffer)
        if length > FRAME_BYTES_MAX:
            raise PeerGoneError(f"a control frame of {length} bytes is none of ours")
        if len(self._buffer) < LENGTH.size + length:
            return None
        payload = bytes(self._buffer[LENGTH.size : LENGTH.size + length])
        del self._buffer[: LENGTH.size + length]
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PeerGoneError(f"a control frame of {length} bytes is none of ours: {error}") from None

    def close(self) -> None:
        self._socket.close()
