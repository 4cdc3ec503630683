"""Layers and head whose weights come extent by extent: kernels run over what is ready of a table, in order.

With a masking, each operator gets the input that is selected for it.
"""

from collections.abc import Iterator
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.activations import Activations
from tidemill.actors.compute.kernels import linear, plane_linear
from tidemill.actors.compute.kernels.elements import STORED_DTYPES
from tidemill.actors.compute.masked_kernels import MaskedKernels, RunKernel
from tidemill.actors.compute.masking import Masking
from tidemill.actors.compute.placement import Placement
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.actors.compute.step_events import ExtentNeeded, ExtentsConsumed, StepEvent
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role

F32 = npt.NDArray[np.float32]


class ExtentLayers:
    """Computes on tables that are read by extents. Between two events it holds no reference into the arena."""

    def __init__(
        self,
        manifest: Manifest,
        arena: npt.NDArray[np.uint8],
        placement: Placement,
        buffers: Activations,
        *,
        masking: Masking | None,
        threads: int,
    ) -> None:
        self.kernel_ns = 0
        self._manifest = manifest
        self._arena = arena
        self._placement = placement
        self._buffers = buffers
        self._masking = masking
        self._threads = threads
        self._views = {element: arena.view(dtype) for element, dtype in STORED_DTYPES.items()}
        self._words = arena.view(np.uint32)
        self._exponent_bases = np.array([extent.exponent_base for extent in manifest.extents], np.int64)
        self._bundle_starts = np.array([extent.bundle_start for extent in manifest.extents], np.int64)
        self._bundle_stops = np.array([extent.bundle_stop for extent in manifest.extents], np.int64)

    def feed(self, table: TableId, run: RunKernel) -> Iterator[StepEvent]:
        """Run a kernel over a table's extents in order, as many runs of bundles at a time as are ready in all
        planes."""
        extents, planes = self._manifest.extents_of(table), self._manifest.planes_of(table)
        at = extents.start
        while at < extents.stop:
            resident = self._placement.ready_run(at, extents.stop)
            ready = resident - resident % planes
            if ready == 0:
                yield ExtentNeeded(at + resident)
                continue
            begun = perf_counter_ns()
            run(at, at + ready)
            self.kernel_ns += perf_counter_ns() - begun
            yield ExtentsConsumed(at, at + ready)
            at += ready

    def operator_rows(self, kind: InputKind, role: Role, layer: int, x: F32, out: F32) -> Iterator[StepEvent]:
        """As `rows`, each operator's rows with the channels that are selected for it."""
        masking = self._masking
        if masking is None or not masking.is_active:
            yield from self.rows(role, layer, x, out)
            return
        masking.see(kind, layer, x)
        inputs = masking.inputs(kind, layer, x)
        if all(masked is inputs[0] for masked in inputs):
            yield from self.rows(role, layer, inputs[0], out)
        else:
            table = self._manifest.get_table(role, layer)
            yield from self.feed(table, self.kernels_of(table).split_rows(inputs, out))

    def rows(self, role: Role, layer: int, x: F32, out: F32) -> Iterator[StepEvent]:
        """out = x · tableᵀ for an output-row table."""
        table = self._manifest.get_table(role, layer)
        element = self._manifest.tables[table].element
        view = self._views[element]
        offsets, starts, stops = self._placement.offsets, self._bundle_starts, self._bundle_stops

        def run(first: int, last: int) -> None:
            linear.row_dot(view, offsets, starts, stops, first, last, x, out, self._threads)

        def run_planes(first: int, last: int) -> None:
            plane_linear.row_dot_planes(
                self._arena, self._words, offsets, self._exponent_bases, starts, stops, first, last,
                x, self._buffers.joined[element], out, self._threads,
            )  # fmt: skip

        return self.feed(table, run if self._manifest.planes_of(table) == 1 else run_planes)

    def mlp(self, layer: int, normed: F32) -> Iterator[StepEvent]:
        """sums += the MLP of `normed`, over whole neurons."""
        buffers = self._buffers
        table = self._manifest.get_table("mlp", layer)
        element = self._manifest.tables[table].element
        view = self._views[element]
        offsets, starts, stops = self._placement.offsets, self._bundle_starts, self._bundle_stops
        gelu = self._manifest.decoder.activation == "gelu_tanh"

        def run(first: int, last: int) -> None:
            linear.mlp(view, offsets, starts, stops, first, last, normed, buffers.neurons, buffers.sums, gelu)

        def run_planes(first: int, last: int) -> None:
            plane_linear.mlp_planes(
                self._arena, self._words, offsets, self._exponent_bases, starts, stops, first, last,
                normed, buffers.joined[element], buffers.neurons, buffers.sums, gelu,
            )  # fmt: skip

        if self._masking is not None and self._masking.is_active:
            kernels = self.kernels_of(table)
            yield from self.feed(table, kernels.neurons(self._masking, layer, normed, buffers.sums))
            self._masking.close_mlp(layer, len(normed))
        else:
            yield from self.feed(table, run if self._manifest.planes_of(table) == 1 else run_planes)

    def kernels_of(self, table: TableId) -> MaskedKernels:
        """Kernels over one table's extents, for callers that run them with `feed`."""
        return MaskedKernels(
            arena=self._arena,
            table=self._manifest.tables[table],
            extents=(self._placement.offsets, self._exponent_bases, self._bundle_starts, self._bundle_stops),
            spec=self._manifest.decoder,
            joined=self._buffers.joined,
            threads=self._threads,
        )
