"""Runs kernels over one table's extents with inputs that differ by operator, and with a choice between the MLP's two
phases. Made for one table of one step; exact steps don't come here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels import linear, plane_linear, row_range, two_phase
from tidemill.actors.compute.kernels.elements import STORED_DTYPES
from tidemill.actors.compute.masking import Masking
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.manifest import Table

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
RunKernel = Callable[[int, int], None]  # over extents [first, last)
TileOf = Callable[[F32, F32], None]  # out [B, rows of one extent] = x [B, K] · rowsᵀ, of x and out


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedKernels:
    arena: npt.NDArray[np.uint8]
    table: Table
    extents: tuple[I64, I64, I64, I64]  # of the model: offsets in the arena, exponent bases, first and last bundles
    spec: DecoderSpec
    joined: Mapping[str, npt.NDArray[np.generic]]  # scratch per thread
    threads: int

    def split_rows(self, inputs: Sequence[F32], out: F32) -> RunKernel:
        """out = x · rowsᵀ for the rows of q, k and v, each with an x of its own."""
        offsets, bases, starts, stops = self.extents
        spec, view = self.spec, self._view
        edges = [0, spec.q_size, spec.q_size + spec.kv_size, spec.qkv_size]
        words, joined = self.arena.view(np.uint32), self.joined.get(self.table.element)

        def run(first: int, last: int) -> None:
            for x, start, stop in zip(inputs, edges[:-1], edges[1:], strict=True):
                if start >= stops[last - 1] or stop <= starts[first]:
                    continue
                if self._has_planes:
                    row_range.row_dot_range_planes(
                        self.arena, words, offsets, bases, starts, stops, first, last, x, joined, out,
                        self.threads, start, stop,
                    )  # fmt: skip
                else:
                    row_range.row_dot_range(
                        view, offsets, starts, stops, first, last, x, out, self.threads, start, stop
                    )

        return run

    def neurons(self, masking: Masking, layer: int, normed: F32, sums: F32) -> RunKernel:
        """The MLP's sums of a neuron table: gates and ups of a run of neurons, the choice, their downs."""
        x_gate, x_up = masking.open_mlp(layer, normed)
        gates, ups, count = masking.gates, masking.ups, normed.shape[0]
        offsets, bases, starts, stops = self.extents
        gelu, view, words = self.spec.activation == "gelu_tanh", self._view, self.arena.view(np.uint32)
        joined = self.joined["f16" if self.table.element == "f16" else "bf16"]

        def run(first: int, last: int) -> None:
            planes = self.arena, words, offsets, bases, starts, stops, first, last
            whole = view, offsets, starts, stops, first, last
            if self._has_planes:
                two_phase.neurons_planes(*planes, x_gate, x_up, joined, gates, ups, gelu)
            else:
                two_phase.neurons(*whole, x_gate, x_up, joined.view(view.dtype), gates, ups, gelu)
            masking.select_neurons(layer, int(starts[first]), int(stops[last - 1]), count)
            if self._has_planes:
                two_phase.add_downs_planes(*planes, ups, count, joined, sums)
            else:
                two_phase.add_downs(*whole, ups, count, sums)

        return run

    def tile_of(self, extent: int) -> TileOf:
        """The product with the rows of one extent of an output-row table alone (and of the planes that follow it)."""
        offsets, bases, starts, stops = self.extents
        starts, stops = starts - starts[extent], stops - starts[extent]
        words, joined = self.arena.view(np.uint32), self.joined.get(self.table.element)

        def run(x: F32, out: F32) -> None:
            last = extent + len(self.table.planes)
            if self._has_planes:
                plane_linear.row_dot_planes(
                    self.arena, words, offsets, bases, starts, stops, extent, last, x, joined, out, self.threads
                )
            else:
                linear.row_dot(self._view, offsets, starts, stops, extent, last, x, out, self.threads)

        return run

    @property
    def _view(self) -> npt.NDArray[np.generic]:
        return self.arena.view(STORED_DTYPES[self.table.element])

    @property
    def _has_planes(self) -> bool:
        return len(self.table.planes) > 1
