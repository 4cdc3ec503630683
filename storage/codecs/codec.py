"""The protocol of a codec: how the bundles of an extent become the stored bytes of its planes, and back."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tidemill.storage.manifest import Element

Bytes = npt.NDArray[np.uint8]


class Codec(Protocol):
    """Stateless. A codec with several planes stores each as an extent of its own, so that planes can be placed apart;
    anything that belongs to a whole extent (an exception list, a compression frame) is part of a plane's stored bytes.
    """

    @property
    def name(self) -> str: ...

    def plane_bytes(self, element: Element, bundle_bytes: int) -> Sequence[int]:
        """Decoded bytes of one bundle in each plane."""
        ...

    def encode(self, bundles: Bytes, element: Element) -> Sequence[Bytes]:
        """Bundles [N, bundle_bytes] → the stored bytes of each plane."""
        ...

    def decode(self, plane: int, stored: memoryview, out: memoryview) -> None:
        """Decode one plane's stored bytes so that they fill `out` exactly.

        Raises CorruptDataError when they do not, without writing past `out` or allocating by what the data claims.
        """
        ...
