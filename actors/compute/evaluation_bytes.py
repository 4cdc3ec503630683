"""What an evaluation takes beside an exact step, for planning memory. It lies apart so that it imports no numba."""

from tidemill.actors.compute.logit_comparison import POSITION_BLOCK
from tidemill.actors.compute.masking import masking_bytes
from tidemill.storage.manifest import Manifest

TEMPORARY_TILES = 6  # exponentials, differences and products of a block's logits


def evaluation_bytes(manifest: Manifest, policies: int, window: int, chunk: int) -> int:
    """Bytes of states, tiles of logits, and masks."""
    tile = POSITION_BLOCK * head_rows(manifest)
    states = (1 + policies) * window * manifest.decoder.hidden_size
    return 4 * (states + (1 + policies + TEMPORARY_TILES) * tile) + masking_bytes(manifest.decoder, chunk)


def head_rows(manifest: Manifest) -> int:
    """Rows of the largest extent of the head."""
    extents = [manifest.extents[i] for i in manifest.head_extents]
    return max(extent.bundle_stop - extent.bundle_start for extent in extents)
