"""The protocol of a codec: how the bundles of an extent become the stored bytes of its planes, and back."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Element, Table

Bytes = npt.NDArray[np.uint8]


class EncodedPlane(NamedTuple):
    """One plane of an extent: its bytes on flash, how many they are in the arena, and what the manifest keeps
    besides."""

    stored: Bytes
    placed_bytes: int
    exponent_base: int = 0
    exceptions: int = 0


class Codec(Protocol):
    """Stateless. A codec with several planes stores each as an extent of its own, so that planes can be placed apart;
    anything that belongs to a whole extent (an exception list, a compression frame) is part of a plane's bytes.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_identity(self) -> bool:
        """Whether the stored bytes are what lies in the arena, so that they are read straight into their slot."""
        ...

    def supports(self, element: Element, row_elements: int) -> bool:
        """Whether tables of such rows can be stored so."""
        ...

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        """Bytes of one bundle in each plane, as it lies in the arena."""
        ...

    def planes_rule(self, table: Table) -> str | None:
        """What the sizes of a table's planes should be, where they are not."""
        ...

    def placed_bytes(self, plane: int, table: Table, bundles: int) -> tuple[int, int]:
        """The least and the most that a plane of so many bundles takes in the arena."""
        ...

    def encode(self, bundles: Bytes, table: Table) -> Sequence[EncodedPlane]:
        """Bundles [N, bundle_bytes] → each plane."""
        ...

    def seal(self, stored: Bytes, table: Table, table_id: TableId, first: int) -> None:
        """Write the digests of encoded bundles that have one of their own; `first` is the id of the first of them."""
        ...

    def verify(self, placed: Bytes, table: Table, table_id: TableId, first: int) -> None:
        """Raises CorruptDataError for the first bundle whose own digest, if it has one, differs."""
        ...

    def decode(self, plane: int, stored: memoryview, out: memoryview) -> None:
        """Turn one plane's stored bytes into what lies in the arena, so that they fill `out` exactly.

        Raises CorruptDataError when they do not, without writing past `out` or allocating by what the data claims.
        """
        ...

    def check(self, plane: int, placed: memoryview, table: Table, bundles: int) -> None:
        """Raises CorruptDataError for bytes that kernels could not safely follow. Cheap: called for every read."""
        ...

    def join_bundle(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        """One bundle of a run that lies in the arena, the one at `place`."""
        ...

    def join_coarse(self, planes: Sequence[Bytes], table: Table, exponent_base: int, place: int) -> Bytes:
        """As `join_bundle`, of plane 0 alone, with the middle of what the others could add; exceptions are not known.
        Of a codec with one plane, the bundle."""
        ...

    def join(self, planes: Sequence[Bytes], table: Table, exponent_base: int) -> Bytes:
        """What lies in the arena, all planes of one run of bundles → those bundles [N, bundle_bytes], bit for bit."""
        ...
