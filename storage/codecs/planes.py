"""Two planes per weight, lossless: plane 0 alone is a coarse weight, both together are the source, bit for bit.

`bf16-planes` (12 bits a weight). Plane 0, a byte per weight: its code, counted from the extent's `exponent_base`. Plane
1: the lower mantissas, two weights to a byte, then the exceptions (`bf16_codes`).
`fp16-planes` (16 bits). Plane 0: the upper byte (sign, exponent, 2 bits of mantissa); plane 1: the lower.

Exceptions, behind the last nibble: u32 starts[rows + 1], rising from 0: those of row r are entries[starts[r]] up to
entries[starts[r + 1]]; then u32 entries, `place in the row << 16 | bf16`, places rising within a row. All are
little-endian.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.bf16_codes import BLOCK as BLOCK  # kernels take it from here
from tidemill.storage.codecs.bf16_codes import (
    ROW_ELEMENTS_MAX,
    Words,
    coarse_weights,
    exponents_of,
    find_exponent_base,
    join_weights,
    split_weights,
)
from tidemill.storage.codecs.codec import Bytes, EncodedPlane
from tidemill.storage.codecs.raw import RawCodec
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.manifest import Element, Table

EXCEPTION_SHARE_MAX = (
    0.02  # of a sample; above, a table is not worth splitting (4 bytes an exception, for 4 bits a weight)
)
MIDDLE_BYTE = 0x80  # of the lower byte of f16


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
        base = find_exponent_base(exponents_of(weights))
        codes, nibbles, outside = split_weights(weights, np.full((1, 1), base, np.uint8))
        tail = _encode_exceptions(weights, outside)
        stored = np.concatenate([nibbles, tail.view(np.uint8)])
        return EncodedPlane(codes, codes.nbytes, base), EncodedPlane(stored, stored.nbytes)

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

    def join_coarse(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        codes = planes[0].reshape(-1, table.bundle_elements)[place]
        return coarse_weights(codes, np.full((1, 1), exponent_base, np.uint16)).view(np.uint8).reshape(-1)

    def _join(self, planes: Sequence[Bytes], table: Table, exponent_base: int, wanted: slice) -> Bytes:
        """The wanted bundles of a run, [N, bundle_bytes]."""
        bundles = len(planes[0]) // table.bundle_elements
        codes = planes[0].reshape(bundles, -1)[wanted].reshape(-1)
        nibbles = planes[1][: len(planes[0]) // 2].reshape(bundles, -1)[wanted].reshape(-1)
        weights = join_weights(codes, nibbles, np.full((1, 1), exponent_base, np.uint16))
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

    def join_coarse(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        upper = planes[0].reshape(-1, table.bundle_elements)[place]
        return self.join([upper, np.full_like(upper, MIDDLE_BYTE)], table, exponent_base).reshape(-1)


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
