"""Layers and head of drafts: plane 0 of every matrix for one position, all of it in the arena.

It asks for nothing while it computes and gives nothing back, so no ring slot and no reader is concerned.
"""

from collections.abc import Iterator
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.activations import Activations
from tidemill.actors.compute.kernels import coarse_linear
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.actors.compute.step_events import ExtentNeeded, StepEvent
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role

F32 = npt.NDArray[np.float32]


class CoarseLayers:
    """For models that `storage.plane_bytes.can_draft_planes`; of others it can be made, and not used."""

    def __init__(
        self,
        manifest: Manifest,
        arena: npt.NDArray[np.uint8],
        placement: Placement,
        buffers: Activations,
        *,
        threads: int,
    ) -> None:
        self.kernel_ns = 0
        self._manifest = manifest
        self._arenas: dict[str, coarse_linear.Coarse] = {"bf16": arena, "f16": arena.view(np.int8)}
        self._placement = placement
        self._buffers = buffers
        self._threads = threads
        self._gelu = manifest.decoder.activation == "gelu_tanh"
        self._bases = np.array([extent.exponent_base for extent in manifest.extents], np.int64)
        self._starts = np.array([extent.bundle_start for extent in manifest.extents], np.int64)
        self._stops = np.array([extent.bundle_stop for extent in manifest.extents], np.int64)
        wanted = (*manifest.layer_extents, *manifest.head_extents)
        self._coarse = np.array([i for i in wanted if manifest.extents[i].plane == 0], np.int64)

    def wait(self) -> Iterator[StepEvent]:
        """Until all that drafts compute with is in the arena."""
        while True:
            missing = self._coarse[self._placement.offsets[self._coarse] == NOT_RESIDENT]
            if len(missing) == 0:
                return
            yield ExtentNeeded(int(missing[0]))

    def rows(self, role: Role, layer: int, x: F32, out: F32) -> None:
        """out = x · tableᵀ for an output-row table; [1, …] both."""
        arena, extents = self._find(self._manifest.get_table(role, layer))
        self._row_dot(arena, extents, x, out)

    def head(self, x: F32, logits: F32) -> None:
        """logits = x · headᵀ."""
        arena, extents = self._find(self._manifest.head_table)
        self._row_dot(arena, extents, x, logits)

    def mlp(self, layer: int, normed: F32) -> None:
        """sums += the MLP of `normed`, [1, hidden]."""
        arena, extents = self._find(self._manifest.get_table("mlp", layer))
        buffers = self._buffers
        begun = perf_counter_ns()
        coarse_linear.mlp_coarse(
            arena, self._placement.offsets, self._bases, self._starts, self._stops, extents.start, extents.stop,
            normed, buffers.neurons, buffers.sums, self._gelu,
        )  # fmt: skip
        self.kernel_ns += perf_counter_ns() - begun

    def _row_dot(self, arena: coarse_linear.Coarse, extents: range, x: F32, out: F32) -> None:
        begun = perf_counter_ns()
        coarse_linear.row_dot_coarse(
            arena, self._placement.offsets, self._bases, self._starts, self._stops, extents.start, extents.stop,
            x, out, self._threads,
        )  # fmt: skip
        self.kernel_ns += perf_counter_ns() - begun

    def _find(self, table: TableId) -> tuple[coarse_linear.Coarse, range]:
        """A table's extents, and the arena in the type that tells kernels what its plane 0 is."""
        return self._arenas[self._manifest.tables[table].element], self._manifest.extents_of(table)
