"""The buffers that layers of single bundles are computed in, allocated once."""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.linear_parts import CHANNEL_COLUMNS, JOINED_CHANNELS, JOINED_NEURONS, MLP_PARTS
from tidemill.storage.codecs.planes import BLOCK
from tidemill.storage.manifest import ELEMENT_BYTES, Manifest

F32 = npt.NDArray[np.float32]
SUMS_FLOATS = 4 << 20  # of partial sums: a wide output of many positions is computed some columns at a time


def _sizes(manifest: Manifest, chunk: int, threads: int) -> dict[str, tuple[int, ...]]:
    """Shapes in f32."""
    tables = [table for table in manifest.tables if table.is_self_contained]
    by_channel = [table for table in tables if table.layout == "input-channel"]
    if not tables:
        return {}
    ff, hidden = manifest.decoder.ff_size, manifest.decoder.hidden_size
    inner = any(table.role in ("mlp_in", "mlp_updown") for table in tables)
    row = max(CHANNEL_COLUMNS * JOINED_CHANNELS, 8 * 3 * hidden)  # weights
    return {
        "factors": (chunk * max((len(table.segments) * table.channel_count for table in by_channel), default=0),),
        "gathered": (threads, 3 * chunk * JOINED_CHANNELS if by_channel else 0),
        "sums": (max(SUMS_FLOATS, MLP_PARTS * chunk * BLOCK) if by_channel else 0,),
        "gate_up": (chunk, (2 if by_channel else 1) * ff if inner else 0),
        "hidden": (chunk, ff if by_channel else 0),
        "neurons": (MLP_PARTS, 0 if by_channel else 3 * JOINED_NEURONS * chunk),
        "joined": (threads, row * max(ELEMENT_BYTES[table.element] for table in tables) // 4),
    }


def bundle_buffer_bytes(manifest: Manifest, chunk: int, threads: int) -> int:
    return 4 * sum(int(np.prod(shape)) for shape in _sizes(manifest, chunk, threads).values())


class BundleBuffers:
    def __init__(self, manifest: Manifest, chunk: int, threads: int) -> None:
        buffers = {name: np.zeros(shape, np.float32) for name, shape in _sizes(manifest, chunk, threads).items()}
        self.gathered: F32 = buffers["gathered"]
        self.gate_up: F32 = buffers["gate_up"]  # gates and then ups, or gates alone
        self.hidden: F32 = buffers["hidden"]
        self.neurons: F32 = buffers["neurons"]
        self._factors = buffers["factors"]
        self._sums = buffers["sums"]
        self._joined = buffers["joined"]

    def factors_of(self, segments: int, batch: int, channels: int) -> F32:
        """Of each operator of an input, [segments, batch, channels]; what they hold is left from before."""
        factors: F32 = self._factors[: segments * batch * channels].reshape(segments, batch, channels)
        return factors

    def window(self, batch: int, width: int) -> int:
        """How many columns of an output row are summed at a time."""
        return min(width, len(self._sums) // (MLP_PARTS * batch) // BLOCK * BLOCK)

    def sums_of(self, batch: int, width: int) -> F32:
        """Zeros, [MLP_PARTS, batch, width]; kernels leave them zero."""
        sums: F32 = self._sums[: MLP_PARTS * batch * width].reshape(MLP_PARTS, batch, width)
        return sums

    def joined(self, kind: str) -> npt.NDArray[np.generic]:
        """Weights of a batch: pairs of bf16, or elements as they are."""
        stored = {"bf16-bundles": np.uint32, "bf16": np.uint16, "f16": np.int16, "f32": np.float32}[kind]
        return self._joined.view(stored)
