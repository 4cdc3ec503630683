"""Layers and head of drafts: plane 0 of every matrix for one position, all of it in the arena.

A table that has one plane is computed with whole. Nothing is asked for meanwhile and nothing given back, so no ring
slot and no reader is concerned.
"""

from collections.abc import Iterator
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.activations import Activations
from tidemill.actors.compute.kernels import coarse_linear, linear
from tidemill.actors.compute.kernels.elements import STORED_DTYPES
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.actors.compute.step_events import ExtentNeeded, StepEvent
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role

F32 = npt.NDArray[np.float32]


class CoarseLayers:
    """For models with planes (`storage.arena_plan.has_planes`); of others it can be made, and not used."""

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
        self._wholes = {element: arena.view(dtype) for element, dtype in STORED_DTYPES.items()}
        self._coarse: dict[str, coarse_linear.Coarse] = {"bf16": arena, "f16": arena.view(np.int8)}
        self._placement = placement
        self._buffers = buffers
        self._threads = threads
        self._gelu = manifest.decoder.activation == "gelu_tanh"
        self._bases = np.array([extent.exponent_base for extent in manifest.extents], np.int64)
        self._starts = np.array([extent.bundle_start for extent in manifest.extents], np.int64)
        self._stops = np.array([extent.bundle_stop for extent in manifest.extents], np.int64)
        wanted = (*manifest.layer_extents, *manifest.head_extents)
        self._needed = np.array([i for i in wanted if manifest.extents[i].plane == 0], np.int64)

    def wait(self) -> Iterator[StepEvent]:
        """Until all that drafts compute with is in the arena."""
        while True:
            missing = self._needed[self._placement.offsets[self._needed] == NOT_RESIDENT]
            if len(missing) == 0:
                return
            yield ExtentNeeded(int(missing[0]))

    def rows(self, role: Role, layer: int, x: F32, out: F32) -> None:
        """out = x · tableᵀ for an output-row table; [1, …] both."""
        self._row_dot(self._manifest.get_table(role, layer), x, out)

    def head(self, x: F32, logits: F32) -> None:
        """logits = x · headᵀ."""
        self._row_dot(self._manifest.head_table, x, logits)

    def mlp(self, layer: int, normed: F32) -> None:
        """sums += the MLP of `normed`, [1, hidden]."""
        table, buffers = self._manifest.get_table("mlp", layer), self._buffers
        offsets, starts, stops = self._placement.offsets, self._starts, self._stops
        extents, element = self._manifest.extents_of(table), self._manifest.tables[table].element
        first, last = extents.start, extents.stop
        begun = perf_counter_ns()
        if self._manifest.planes_of(table) == 1:
            linear.mlp(
                self._wholes[element], offsets, starts, stops, first, last,
                normed, buffers.neurons, buffers.sums, self._gelu,
            )  # fmt: skip
        else:
            coarse_linear.mlp_coarse(
                self._coarse[element], offsets, self._bases, starts, stops, first, last,
                normed, buffers.neurons, buffers.sums, self._gelu,
            )  # fmt: skip
        self.kernel_ns += perf_counter_ns() - begun

    def _row_dot(self, table: TableId, x: F32, out: F32) -> None:
        offsets, starts, stops = self._placement.offsets, self._starts, self._stops
        extents, element = self._manifest.extents_of(table), self._manifest.tables[table].element
        first, last = extents.start, extents.stop
        begun = perf_counter_ns()
        if self._manifest.planes_of(table) == 1:
            linear.row_dot(self._wholes[element], offsets, starts, stops, first, last, x, out, self._threads)
        else:
            coarse_linear.row_dot_coarse(
                self._coarse[element], offsets, self._bases, starts, stops, first, last, x, out, self._threads
            )
        self.kernel_ns += perf_counter_ns() - begun
