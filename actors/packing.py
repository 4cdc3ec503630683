"""Lists of ids as they travel in messages: packed little-endian arrays."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def pack_ids(ids: npt.ArrayLike) -> bytes:
    """Pack ids (any shape, flattened) as little-endian u32."""
    return np.ascontiguousarray(ids, dtype="<u4").tobytes()


def unpack_ids(packed: bytes, *, columns: int = 1) -> npt.NDArray[np.uint32]:
    """Unpack ids; shape [N] for one column, [N, columns] for more."""
    ids = np.frombuffer(packed, dtype="<u4")
    return ids if columns == 1 else ids.reshape(-1, columns)


def pack_tokens(token_ids: npt.ArrayLike) -> bytes:
    return np.ascontiguousarray(token_ids, dtype="<i4").tobytes()


def unpack_tokens(packed: bytes) -> list[int]:
    return [int(token) for token in np.frombuffer(packed, dtype="<i4")]


def pack_checksums(checksums: Sequence[int]) -> bytes:
    return np.array(checksums, dtype="<u8").tobytes()


def unpack_checksums(packed: bytes) -> list[int]:
    return [int(checksum) for checksum in np.frombuffer(packed, dtype="<u8")]


def pack_bits(ids: npt.NDArray[np.uint32], count: int) -> bytes:
    """A bit for each of `count` things, set for `ids`: thing i is bit i % 8 of byte i // 8."""
    chosen = np.zeros(count, np.bool_)
    chosen[ids] = True
    return np.packbits(chosen, bitorder="little").tobytes()


def unpack_bits(packed: bytes) -> npt.NDArray[np.uint32]:
    """The ids whose bits are set, rising."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    return np.flatnonzero(bits).astype(np.uint32)
