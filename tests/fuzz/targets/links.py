"""Messages of actors' links: the first byte chooses the link, the rest is a message of it, or not."""

import functools

import msgspec

from tidemill.actors.packing import unpack_bits, unpack_checksums, unpack_ids, unpack_tokens
from tidemill.actors.wiring import LINKS
from tidemill.runtime.links.link import LinkError
from tidemill.runtime.links.queue_link import QueueLink

FILLERS: dict[object, object] = {int: 1, bytes: bytes(8), str: "text", bool: True, float: 0.5}


@functools.cache
def seeds() -> list[bytes]:
    """One message of each kind that has simple fields."""
    given: list[bytes] = []
    for choice, link in enumerate(LINKS):
        for kind in getattr(link.union, "__args__", (link.union,)):
            fields = [FILLERS.get(field.type) for field in msgspec.structs.fields(kind)]
            given.append(bytes([choice]) + msgspec.msgpack.encode([kind.__struct_config__.tag, *fields]))
    return given


def check(data: bytes) -> None:
    if not data:
        return
    link = QueueLink(LINKS[data[0] % len(LINKS)])
    link._queue.append(data[1:])
    try:
        message = link.receive()
    except LinkError as error:
        assert str(error)
        return
    assert message is not None
    for value in msgspec.structs.astuple(message):
        if isinstance(value, bytes):
            for unpack in (unpack_ids, unpack_tokens, unpack_checksums, unpack_bits):
                try:
                    unpack(value)
                except ValueError:
                    pass  # packed by nobody of ours
