"""One decoder over the arena: a step as a generator that stops wherever the next weights are not there yet.

It knows extents and where they lie (`Placement`), not how they come. It never copies a weight, but for vectors (kept
as f32) and single embedding rows.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from time import perf_counter_ns

import numba
import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.activations import Activations
from tidemill.actors.compute.bundle_buffers import BundleBuffers
from tidemill.actors.compute.bundle_layers import BundleLayers
from tidemill.actors.compute.embedding import EmbeddingRows
from tidemill.actors.compute.kernels import attention, linear, norm, plane_linear
from tidemill.actors.compute.kernels.elements import STORED_DTYPES, widen_array
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS
from tidemill.actors.compute.kv_cache import KVCache
from tidemill.actors.compute.masked_kernels import MaskedKernels, RunKernel
from tidemill.actors.compute.masking import Masking
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.actors.compute.rope import angles, inverse_frequencies
from tidemill.actors.compute.selection.foresight import Foresight
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import (
    ExtentNeeded,
    ExtentsConsumed,
    LayerDone,
    RowsNeeded,
    StepEvent,
    StepGenerator,
    WantLogits,
)
from tidemill.actors.compute.vectors import NOTHING, LayerVectors, load_vectors
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import MODEL_LAYER, Manifest, Role

F32 = npt.NDArray[np.float32]


class Decoder:
    """Buffers and KV cache are allocated here, once. Between two events it holds no reference into the arena."""

    def __init__(
        self,
        manifest: Manifest,
        arena: npt.NDArray[np.uint8],
        placement: Placement,
        *,
        context: int,
        chunk: int,
        threads: int,
        row_slots: int,
        masking: Masking | None = None,
        foresight: Foresight | None = None,
    ) -> None:
        """With a `masking` steps may select, and its tap sees their activations. With a `foresight` steps that select
        neurons say early what the next layer will likely need."""
        self.spec = manifest.decoder
        self._kernel_ns = 0
        self._manifest = manifest
        self._arena = arena
        self._placement = placement
        self._context = context
        self._threads = threads
        self._row_slots = row_slots
        self._masking = masking
        self._views = {element: arena.view(dtype) for element, dtype in STORED_DTYPES.items()}
        self._words = arena.view(np.uint32)
        self._exponent_bases = np.array([extent.exponent_base for extent in manifest.extents], np.int64)
        self._bundle_starts = np.array([extent.bundle_start for extent in manifest.extents], np.int64)
        self._bundle_stops = np.array([extent.bundle_stop for extent in manifest.extents], np.int64)
        self._rows_in_arena = EmbeddingRows(manifest, arena, placement)
        self._kv = KVCache(self.spec, context)
        # Kernels use a buffer for each thread that numba may run them on, which is `threads` in an actor's process.
        most_threads = max(threads, numba.config.NUMBA_NUM_THREADS)
        self._buffers = Activations(self.spec, chunk, most_threads, context)
        self._bundles: BundleLayers | None = None
        if manifest.layout != "dense":
            buffers = BundleBuffers(manifest, chunk, most_threads)
            self._bundles = BundleLayers(manifest, arena, buffers, threads=threads)
            self._bundles.foresight = foresight
        ropes = list({self.spec.rope, self.spec.local_rope or self.spec.rope})
        self._rope_of = [ropes.index(self.spec.rope_of(layer)) for layer in range(self.spec.layer_count)]
        self._frequencies = [inverse_frequencies(rope, self.spec.head_size) for rope in ropes]
        self._angles: list[tuple[F32, F32]] = []  # of the step under way, one pair per rope
        self._vectors: list[LayerVectors] = []
        self._final_norm: F32 = NOTHING
        self._eps = np.float32(self.spec.norm_eps)

    @property
    def kernel_ns(self) -> int:
        """Spent in kernels since the decoder was made."""
        return self._kernel_ns + (self._bundles.kernel_ns if self._bundles is not None else 0)

    def step(
        self,
        token_ids: Sequence[int],
        start: int,
        *,
        want_logits: WantLogits,
        policy: SelectionPolicy | None = None,
    ) -> StepGenerator:
        """Run `token_ids` at positions start.. and return f32 logits [1 or B, vocab], or None for "none".

        Positions from `start` on are overwritten in the KV cache. At most `chunk` tokens. A `policy` selects at every
        one of them; it needs a decoder with a masking.
        """
        count = len(token_ids)
        if self._masking is not None:
            self._masking.policy = policy
        if self._bundles is not None:
            self._bundles.policy = policy
        self._buffers.sums[:, :count] = 0.0  # a step that was given up may have left something
        if not self._vectors:
            yield from self._load_vectors()
        self._angles = [angles(frequencies, start, count) for frequencies in self._frequencies]
        yield from self._embed(token_ids)
        for layer in range(self.spec.layer_count):
            yield from self._attention(layer, start, count)
            yield from self._mlp(layer, count)
            yield LayerDone(layer)
        if want_logits == "none":
            return None
        return (yield from self._head(count, want_logits))

    def final_states(self, count: int) -> F32:
        """What the head is multiplied with, [count, hidden], of the lap that ended; overwritten by the next."""
        return self._buffers.normed[:count]

    def take_densities(self) -> npt.NDArray[np.float64]:
        """The share of channels that each operator computed with since the last call, [7]."""
        assert self._masking is not None, "a decoder without masking computes with everything"
        return self._masking.take_densities()

    def feed_head(self, run: RunKernel) -> Iterator[StepEvent]:
        """A kernel of the caller's over the head's extents."""
        return self._feed(self._manifest.head_table, run)

    def head_kernels(self) -> MaskedKernels:
        return self._kernels_of(self._manifest.head_table)

    # --- weights

    def _feed(self, table: TableId, run: RunKernel) -> Iterator[StepEvent]:
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
            self._kernel_ns += perf_counter_ns() - begun
            yield ExtentsConsumed(at, at + ready)
            at += ready

    def _operator_rows(self, kind: InputKind, role: Role, layer: int, x: F32, out: F32) -> Iterator[StepEvent]:
        """As `_rows`, each operator's rows with the channels that are selected for it."""
        if self._bundles is not None and self._bundles.holds(self._manifest.get_table(role, layer)):
            yield from self._bundles.channels(kind, role, layer, x, out)
            return
        masking = self._masking
        if masking is None or not masking.is_active:
            yield from self._rows(role, layer, x, out)
            return
        masking.see(kind, layer, x)
        inputs = masking.inputs(kind, layer, x)
        if all(masked is inputs[0] for masked in inputs):
            yield from self._rows(role, layer, inputs[0], out)
        else:
            table = self._manifest.get_table(role, layer)
            yield from self._feed(table, self._kernels_of(table).split_rows(inputs, out))

    def _rows(self, role: Role, layer: int, x: F32, out: F32) -> Iterator[StepEvent]:
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

        return self._feed(table, run if self._manifest.planes_of(table) == 1 else run_planes)

    def _load_vectors(self) -> Iterator[StepEvent]:
        """Keep norms and biases as f32. They are the first extents of every model and always locked."""
        embed, layers = self._manifest.extents_of(self._manifest.get_table("embed")), self._manifest.layer_extents
        for extent in range(min(embed.start, layers.start)):
            while self._placement.offsets[extent] == NOT_RESIDENT:
                yield ExtentNeeded(extent)
        self._vectors, self._final_norm = load_vectors(self._manifest, self._arena, self._placement)

    def _embed(self, token_ids: Sequence[int]) -> Generator[StepEvent, object, None]:
        """Rows of the embedding into the residual stream: from the tables in the arena, else by request."""
        unique, places = np.unique(np.asarray(token_ids, np.uint32), return_inverse=True)
        missing: list[int] = []
        for i, token in enumerate(unique.tolist()):
            row = self._rows_in_arena.find(token)
            if row is None:
                missing.append(i)
            else:
                self._place_row(row, places == i)
        table_id = self._manifest.get_table("embed")
        table = self._manifest.tables[table_id]
        for first in range(0, len(missing), self._row_slots):
            wanted = missing[first : first + self._row_slots]
            offsets = yield RowsNeeded(table_id, unique[wanted])
            assert isinstance(offsets, np.ndarray)
            for i, at in zip(wanted, offsets.tolist(), strict=True):
                stored = self._arena[at : at + table.bundle_bytes]
                self._place_row(widen_array(stored, table.element), places == i)

    def _place_row(self, row: F32, positions: npt.NDArray[np.bool_]) -> None:
        self._buffers.residual[: len(positions)][positions] = row * np.float32(self.spec.embed_scale)

    # --- the layers: `normed` holds the normed input of the branch that comes next

    def _attention(self, layer: int, start: int, count: int) -> Iterator[StepEvent]:
        buffers, vectors = self._buffers, self._vectors[layer]
        if layer == 0:
            norm.norm_rows(buffers.residual[:count], vectors.attn_norm, self._eps, buffers.normed[:count])
        yield from self._operator_rows("qkv", "attn_qkv", layer, buffers.normed[:count], buffers.qkv[:count])
        begun = perf_counter_ns()
        self._attend(layer, start, count)
        self._kernel_ns += perf_counter_ns() - begun
        yield from self._operator_rows("o", "attn_out", layer, buffers.attended[:count], buffers.branch[:count])
        self._close(count, 0, vectors.out_bias, vectors.attn_post_norm, vectors.mlp_norm)

    def _attend(self, layer: int, start: int, count: int) -> None:
        spec, buffers, vectors = self.spec, self._buffers, self._vectors[layer]
        cosines, sines = self._angles[self._rope_of[layer]]
        attention.attend(
            buffers.qkv[:count], start, cosines, sines, vectors.qkv_bias, vectors.q_norm, vectors.k_norm, self._eps,
            self._kv.keys[layer], self._kv.values[layer], spec.windows[layer], np.float32(spec.attention_scale),
            buffers.attention, buffers.ones, buffers.attended[:count],
        )  # fmt: skip

    def _mlp(self, layer: int, count: int) -> Iterator[StepEvent]:
        buffers, vectors = self._buffers, self._vectors[layer]
        normed, branch, parts = buffers.normed[:count], buffers.branch[:count], MLP_PARTS
        match self._manifest.layout:
            case "dense":
                yield from self._dense_mlp(layer, count)
            case "input-channel":
                assert self._bundles is not None
                yield from self._bundles.mlp_by_channels(layer, normed, branch)
                parts = 0
            case "gate-first":
                assert self._bundles is not None
                gates = self._bundles.gates(count)
                yield from self._rows("mlp_gate", layer, normed, gates)
                self._bundles.activate(gates)
                yield from self._bundles.neurons(layer, normed, buffers.sums, gates, self._next_input(layer))
            case "neuron":
                assert self._bundles is not None
                yield from self._bundles.neurons(layer, normed, buffers.sums, None, self._next_input(layer))
        is_last = layer + 1 == self.spec.layer_count
        next_norm = self._final_norm if is_last else self._vectors[layer + 1].attn_norm
        self._close(count, parts, NOTHING, vectors.mlp_post_norm, next_norm)

    def _next_input(self, layer: int) -> Callable[[], F32] | None:
        """Of one position: what the next layer's MLP would be given if no branch came in between."""
        if layer + 1 == self.spec.layer_count:
            return None

        def norm_residual() -> F32:
            normed = np.empty((1, self.spec.hidden_size), np.float32)
            norm.norm_rows(self._buffers.residual[:1], self._vectors[layer + 1].mlp_norm, self._eps, normed)
            return normed

        return norm_residual

    def _dense_mlp(self, layer: int, count: int) -> Iterator[StepEvent]:
        """sums += the MLP, over whole neurons by extents."""
        buffers = self._buffers
        normed = buffers.normed[:count]
        table = self._manifest.get_table("mlp", layer)
        element = self._manifest.tables[table].element
        view = self._views[element]
        offsets, starts, stops = self._placement.offsets, self._bundle_starts, self._bundle_stops
        gelu = self.spec.activation == "gelu_tanh"

        def run(first: int, last: int) -> None:
            linear.mlp(view, offsets, starts, stops, first, last, normed, buffers.neurons, buffers.sums, gelu)

        def run_planes(first: int, last: int) -> None:
            plane_linear.mlp_planes(
                self._arena, self._words, offsets, self._exponent_bases, starts, stops, first, last,
                normed, buffers.joined[element], buffers.neurons, buffers.sums, gelu,
            )  # fmt: skip

        if self._masking is not None and self._masking.is_active:
            kernels = self._kernels_of(table)
            yield from self._feed(table, kernels.neurons(self._masking, layer, normed, buffers.sums))
            self._masking.close_mlp(layer, count)
        else:
            yield from self._feed(table, run if self._manifest.planes_of(table) == 1 else run_planes)

    def _kernels_of(self, table: TableId) -> MaskedKernels:
        return MaskedKernels(
            arena=self._arena,
            table=self._manifest.tables[table],
            extents=(self._placement.offsets, self._exponent_bases, self._bundle_starts, self._bundle_stops),
            spec=self.spec,
            joined=self._buffers.joined,
            threads=self._threads,
        )

    def _close(self, count: int, parts: int, bias: F32, post_norm: F32, next_norm: F32) -> None:
        """Add what attention or MLP made to the residual stream, and norm that for what comes next."""
        buffers = self._buffers
        begun = perf_counter_ns()
        norm.close_branch(
            parts, buffers.sums, buffers.branch[:count], bias, post_norm,
            buffers.residual[:count], next_norm, buffers.normed[:count], self._eps,
        )  # fmt: skip
        self._kernel_ns += perf_counter_ns() - begun

    def _head(self, count: int, want_logits: WantLogits) -> Generator[StepEvent, object, F32]:
        buffers = self._buffers
        first = 0 if want_logits == "all" else count - 1
        logits = np.empty((count, self.spec.vocab_size), np.float32) if want_logits == "all" else buffers.logits
        role = self._manifest.tables[self._manifest.head_table].role
        yield from self._rows(role, MODEL_LAYER, buffers.normed[first:count], logits)
        return logits
