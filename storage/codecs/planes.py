"""Two planes per weight, lossless: plane 0 alone is a coarse weight, both together are the source, bit for bit.

`bf16-planes` (12 bits a weight). Plane 0, a byte per weight: sign · 4 bits of exponent, counted from the extent's
`exponent_base` · the upper 3 bits of the mantissa. Plane 1: the lower 4 bits of the mantissa, two weights to a byte,
then the *exceptions*: weights whose exponent lies outside base .. base + 15, given whole. All bits but the sign 0 is a
zero; the power of two that they would be is an exception.
`fp16-planes` (16 bits). Plane 0: the upper byte (sign, exponent, 2 bits of mantissa); plane 1: the lower.

In `bf16-planes`, the base is even and weights come in blocks of BLOCK of a row, of which byte 16 q + 8 h + 2 i + p of
plane 0 is weight 32 h + 16 p + 4 q + i (q < 4, h < 2, i < 4, p < 2): joining both planes byte by byte then leaves pairs
of weights that widen to f32 by one shift and one mask. Byte m of a block's BLOCK / 2 in plane 1 holds the lower
mantissa of the weights in bytes 2 m (low) and 2 m + 1 (high) of plane 0.

Exceptions, behind the last nibble: u32 starts[rows + 1], rising from 0: those of row r are entries[starts[r]] up to
entries[starts[r + 1]]; then u32 entries, `place in the row << 16 | bf16`, places rising within a row. All are
little-endian.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.codec import Bytes, EncodedPlane
from tidemill.storage.codecs.raw import RawCodec
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.manifest import Element, Table

BLOCK = 64
ROW_ELEMENTS_MAX = 1 << 16  # an exception's place has 16 bits
EXPONENTS = 16
EXCEPTION_BYTES = 4
EXPONENT_BASE_MAX = 256 - EXPONENTS
EXPONENT_BASE_STEP = 2  # the upper byte of a bf16 ends within the exponent: an even base never carries into it
EXCEPTION_SHARE_MAX = (
    0.02  # of a sample; above, a table is not worth splitting (4 bytes an exception, for 4 bits a weight)
)

Words = npt.NDArray[np.uint16]


def find_exponent_base(exponents: npt.NDArray[np.uint8]) -> int:
    """The even base whose 16 exponents hold most of the given ones, zeros aside; the highest of equals."""
    counts = np.bincount(exponents.reshape(-1), minlength=256)
    counts[0] = 0  # zeros have a code with any base; subnormals are rare
    inside = np.convolve(counts, np.ones(EXPONENTS, np.int64), mode="valid")[::EXPONENT_BASE_STEP]
    return EXPONENT_BASE_STEP * int(len(inside) - 1 - np.argmax(inside[::-1]))


def exception_share(weights: Words) -> float:
    """Of bf16 weights as u16: the share that codes of one base cannot express."""
    exponents = ((weights >> 7) & 0xFF).astype(np.uint8)
    outside = (exponents - np.uint8(find_exponent_base(exponents))) >= EXPONENTS
    return float(np.mean(outside & ((weights & 0x7FFF) != 0)))


class _PlanesCodec(RawCodec):
    """What both have in common: two planes that are used as they are stored."""

    is_identity = True
    element: ClassVar[Element]

    def supports(self, element: Element, row_elements: int) -> bool:
        return element == self.element and row_elements % BLOCK == 0 and row_elements <= ROW_ELEMENTS_MAX


class Bf16PlanesCodec(_PlanesCodec):
    name = "bf16-planes"
    element = "bf16"

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        return bundle_bytes // 2, bundle_bytes // 4

    def placed_bytes(self, plane: int, table: Table, bundles: int) -> tuple[int, int]:
        weights = bundles * table.bundle_elements
        if plane == 0:
            return weights, weights
        least = weights // 2 + 4 * (bundles * table.rows_per_bundle + 1)
        return least, least + 4 * weights

    def encode(self, bundles: Bytes, table: Table) -> Sequence[EncodedPlane]:
        weights = bundles.view(np.uint16).reshape(-1, table.row_elements)
        exponents = ((weights >> 7) & 0xFF).astype(np.uint8)
        base = find_exponent_base(exponents)
        signs = ((weights >> 8) & 0x80).astype(np.uint8)
        offsets = exponents - np.uint8(base)
        codes: Bytes = (signs | (offsets << 3) | ((weights >> 4) & 7)).astype(np.uint8)
        lows = (weights & 15).astype(np.uint8)
        is_zero = (weights & 0x7FFF) == 0
        outside = ((offsets >= EXPONENTS) | ((weights & 0x7FFF) == base << 7)) & ~is_zero
        coarse = outside | is_zero
        if coarse.any():  # for exceptions as near as a code comes, for whoever uses plane 0 alone
            codes[coarse] = np.where(exponents <= base, signs, signs | 0x7F)[coarse]
            lows[coarse] = 0
        halves = _pair(lows).reshape(-1, 2)
        nibbles = halves[:, 0] | (halves[:, 1] << 4)
        tail = _encode_exceptions(weights, outside)
        stored = np.concatenate([nibbles, tail.view(np.uint8)])
        return EncodedPlane(_pair(codes), codes.nbytes, base), EncodedPlane(stored, stored.nbytes)

    def check(self, plane: int, placed: memoryview, table: Table, bundles: int) -> None:
        if plane == 0:
            return
        starts, entries = _exceptions(placed, table, bundles)
        rising = starts[0] == 0 and starts[-1] == len(entries) and bool(np.all(starts[1:] >= starts[:-1]))
        places = entries >> np.uint32(16)
        if not rising or (len(places) and int(places.max()) >= table.row_elements):
            raise CorruptDataError(f"{self.name}: the list of exceptions of {bundles} bundles contradicts itself")
        first_of_row = np.zeros(len(entries) + 1, np.bool_)
        first_of_row[starts] = True
        if not np.all((places[1:] > places[:-1]) | first_of_row[1 : len(entries)]):
            raise CorruptDataError(f"{self.name}: exceptions of a row are not in the order of their places")

    def join(self, planes: Sequence[Bytes], table: Table, exponent_base: int) -> Bytes:
        return self._join(planes, table, exponent_base, slice(0, len(planes[0]) // table.bundle_elements))

    def join_bundle(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        return self._join(planes, table, exponent_base, slice(place, place + 1)).reshape(-1)

    def _join(self, planes: Sequence[Bytes], table: Table, exponent_base: int, wanted: slice) -> Bytes:
        """The wanted bundles of a run, [N, bundle_bytes]."""
        bundles = len(planes[0]) // table.bundle_elements
        codes = _unpair(planes[0].reshape(bundles, -1)[wanted].reshape(-1)).astype(np.uint16)
        nibbles = planes[1][: len(planes[0]) // 2].reshape(bundles, -1)[wanted].reshape(-1)
        lows = _unpair(np.stack([nibbles & 15, nibbles >> 4], axis=1).reshape(-1))
        magnitudes = ((codes & 0x7F) << 4) | lows
        weights = ((codes & 0x80) << 8) | np.where(magnitudes, magnitudes + np.uint16(exponent_base << 7), np.uint16(0))
        rows = weights.reshape(-1, table.row_elements)
        starts, entries = _exceptions(planes[1].data, table, bundles)
        starts = starts[wanted.start * table.rows_per_bundle : wanted.stop * table.rows_per_bundle + 1]
        entries = entries[starts[0] : starts[-1]]
        row_of = np.repeat(np.arange(len(rows)), np.diff(starts))
        rows[row_of, entries >> np.uint32(16)] = (entries & np.uint32(0xFFFF)).astype(np.uint16)
        return rows.view(np.uint8).reshape(-1, table.bundle_bytes)


class Fp16PlanesCodec(_PlanesCodec):
    name = "fp16-planes"
    element = "f16"

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        return bundle_bytes // 2, bundle_bytes // 2

    def placed_bytes(self, plane: int, table: Table, bundles: int) -> tuple[int, int]:
        return bundles * table.bundle_elements, bundles * table.bundle_elements

    def encode(self, bundles: Bytes, table: Table) -> Sequence[EncodedPlane]:
        weights = bundles.view(np.uint16).reshape(-1)
        parts = (weights >> 8).astype(np.uint8), (weights & 0xFF).astype(np.uint8)
        return [EncodedPlane(part, part.nbytes) for part in parts]

    def join(self, planes: Sequence[Bytes], table: Table, exponent_base: int) -> Bytes:
        upper, lower = (plane.astype(np.uint16) for plane in planes)
        return ((upper << 8) | lower).view(np.uint8).reshape(-1, table.bundle_bytes)

    def join_bundle(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        size = table.bundle_elements
        wanted = [plane[place * size : (place + 1) * size] for plane in planes]
        return self.join(wanted, table, exponent_base).reshape(-1)


def _pair(values: Bytes) -> Bytes:
    """Blocks of a row in their order, [h, p, q, i] → in the order of plane 0, [q, h, i, p]; flat."""
    return np.ascontiguousarray(values.reshape(-1, 2, 2, 4, 4).transpose(0, 3, 1, 4, 2)).reshape(-1)


def _unpair(values: Bytes) -> Bytes:
    return np.ascontiguousarray(values.reshape(-1, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3)).reshape(-1)


def _encode_exceptions(weights: Words, outside: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    rows, places = np.nonzero(outside)
    starts = np.zeros(len(weights) + 1, "<u4")
    starts[1:] = np.cumsum(np.bincount(rows, minlength=len(weights)))
    entries = (places.astype("<u4") << np.uint32(16)) | weights[rows, places]
    return np.concatenate([starts, entries.astype("<u4")])


def _exceptions(
    placed: memoryview, table: Table, bundles: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """(starts, entries) behind the nibbles; lengths follow from the manifest, which was checked."""
    words = np.frombuffer(placed, "<u4", offset=bundles * table.bundle_elements // 2)
    rows = bundles * table.rows_per_bundle
    return words[: rows + 1], words[rows + 1 :]
