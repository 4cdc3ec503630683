"""Runs one window of text exactly and under every policy, and compares what each of them makes of the next token.

One KV cache serves them in turn: of each run only the final states are kept. The head is then read once for all of
them, and logits are reduced where they arise.
"""

from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.evaluation_bytes import head_rows
from tidemill.actors.compute.logit_comparison import POSITION_BLOCK, LogitComparison
from tidemill.actors.compute.masked_kernels import TileOf
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import StepEvent
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.manifest import Manifest

F32 = npt.NDArray[np.float32]


class Evaluation:
    """Buffers for windows of up to `window` tokens; `policies` are the variants beside the exact one."""

    def __init__(self, manifest: Manifest, policies: Sequence[SelectionPolicy], window: int) -> None:
        self.policies = policies
        self.window = window
        self._manifest = manifest
        self._states: F32 = np.zeros((1 + len(policies), window, manifest.decoder.hidden_size), np.float32)
        self._tiles: F32 = np.zeros((1 + len(policies), POSITION_BLOCK * head_rows(manifest)), np.float32)

    @property
    def spec(self) -> DecoderSpec:
        return self._manifest.decoder

    def keep(self, variant: int, start: int, states: F32) -> None:
        """The final states of positions start .. of one variant, [B, hidden]."""
        self._states[variant, start : start + states.shape[0]] = states

    def compare(self, decoder: Decoder, token_ids: Sequence[int]) -> Generator[StepEvent, object, LogitComparison]:
        """Feed the head over all kept states. Position i is judged by token i + 1, so the last one is not."""
        targets = np.array(token_ids[1:], np.int64)
        comparison = LogitComparison(len(self._states), targets)
        head = self._manifest.head_table
        kernels = decoder.extents.kernels_of(head)
        planes = len(kernels.table.planes)

        def run(first: int, last: int) -> None:
            for extent in range(first, last, planes):
                self._compare_extent(comparison, kernels.tile_of(extent), extent, len(targets))

        yield from decoder.extents.feed(head, run)
        return comparison

    def _compare_extent(self, comparison: LogitComparison, tile_of: TileOf, extent: int, positions: int) -> None:
        placed = self._manifest.extents[extent]
        rows = placed.bundle_stop - placed.bundle_start
        for start in range(0, positions, POSITION_BLOCK):
            stop = min(start + POSITION_BLOCK, positions)
            tiles = [flat[: (stop - start) * rows].reshape(stop - start, rows) for flat in self._tiles]
            for tile, states in zip(tiles, self._states, strict=True):
                tile_of(states[start:stop], tile)
            comparison.add(placed.bundle_start, start, tiles[0], tiles[1:])
