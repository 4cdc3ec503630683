"""Tables of self-contained bundles in an arena, wherever they happen to lie."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.bf16_bundles import Bf16BundlesCodec, bf16_bundle_bytes
from tidemill.storage.codecs.codec import Codec
from tidemill.storage.codecs.raw_bundles import RawBundlesCodec, sealed_bytes
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import ELEMENT_BYTES, Element, Plane, Table

U8 = npt.NDArray[np.uint8]
ALIGNMENT = 64


def _stored(codec: Codec, weights: U8, element: Element, sizes: Sequence[int], bundle_bytes: int) -> U8:
    table = Table(
        role="attn_qkv",
        layer=0,
        layout="input-channel",
        element=element,
        bundle_count=len(weights),
        bundle_elements=sum(sizes),
        planes=(Plane(codec.name, bundle_bytes),),
        checksum_block_bytes=0,
        segments=tuple(sizes),
    )
    (plane,) = codec.encode(weights, table)
    codec.seal(plane.stored, table, TableId(0), 0)
    return plane.stored.reshape(len(weights), bundle_bytes)


def raw_bundles(weights: npt.NDArray[np.generic], element: Element, sizes: Sequence[int]) -> U8:
    """[N, sum of sizes] of an element -> [N, bundle_bytes]."""
    size = sealed_bytes(sum(sizes) * ELEMENT_BYTES[element])
    return _stored(RawBundlesCodec(), weights.view(np.uint8), element, sizes, size)


def coded_bundles(weights: npt.NDArray[np.uint16], sizes: Sequence[int], exceptions: int) -> U8:
    """[N, sum of sizes] of bf16 -> [N, bundle_bytes] of `bf16-bundles` with room for so many exceptions each."""
    size = bf16_bundle_bytes(sizes, exceptions)
    return _stored(Bf16BundlesCodec(), weights.view(np.uint8), "bf16", sizes, size)


def scatter(bundles: U8, seed: int) -> tuple[U8, npt.NDArray[np.int64]]:
    """An arena in which the bundles lie in random order, with gaps, and what lies between is no zeros: (arena,
    places)."""
    rng = np.random.default_rng(seed)
    count, size = bundles.shape
    slots = rng.permutation(2 * count)[:count]
    arena = np.full(ALIGNMENT + 2 * count * size + 4096, 0xA5, np.uint8)
    places = ALIGNMENT + slots.astype(np.int64) * size
    for place, bundle in zip(places, bundles, strict=True):
        arena[place : place + size] = bundle
    return arena, places
