"""One decoder over the arena: a step as a generator that stops wherever the next weights are not there yet.

It knows extents and where they lie (`Placement`), not how they come. It never copies a weight, but for vectors (kept
as f32) and single embedding rows.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from time import perf_counter_ns
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.activations import Activations
from tidemill.actors.compute.kernels import attention, linear, norm
from tidemill.actors.compute.kernels.elements import STORED_DTYPES, widen_array
from tidemill.actors.compute.kv_cache import KVCache
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.actors.compute.rope import angles, inverse_frequencies
from tidemill.actors.compute.vectors import LayerVectors, load_vectors
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
WantLogits = Literal["none", "last", "all"]


class RowsNeeded(NamedTuple):
    """Rows of `embed` that are not resident; the generator is sent their byte offsets in the arena, i64."""

    table: TableId
    bundles: npt.NDArray[np.uint32]


class ExtentNeeded(NamedTuple):
    """The next extent is not resident; the generator is resumed when it is."""

    extent: int


class ExtentsConsumed(NamedTuple):
    """The step has no further use for extents [start, stop)."""

    start: int
    stop: int


class LayerDone(NamedTuple):
    layer: int


StepEvent = RowsNeeded | ExtentNeeded | ExtentsConsumed | LayerDone
StepGenerator = Generator[StepEvent, object, F32 | None]
RunKernel = Callable[[I64, slice], None]


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
    ) -> None:
        self.spec = manifest.decoder
        self.kernel_ns = 0
        self._manifest = manifest
        self._arena = arena
        self._placement = placement
        self._context = context
        self._threads = threads
        self._row_slots = row_slots
        self._views = {element: arena.view(dtype) for element, dtype in STORED_DTYPES.items()}
        self._bundle_starts = np.array([extent.bundle_start for extent in manifest.extents], np.int64)
        self._bundle_counts = np.array([e.bundle_stop - e.bundle_start for e in manifest.extents], np.int64)
        self._kv = KVCache(self.spec, context)
        self._buffers = Activations(self.spec, chunk, threads, context)
        ropes = list({self.spec.rope, self.spec.local_rope or self.spec.rope})
        self._rope_of = [ropes.index(self.spec.rope_of(layer)) for layer in range(self.spec.layer_count)]
        self._frequencies = [inverse_frequencies(rope, self.spec.head_size) for rope in ropes]
        self._angles: list[tuple[F32, F32]] = []  # of the step under way, one pair per rope
        self._vectors: list[LayerVectors] = []
        self._final_norm: F32 = np.zeros(0, np.float32)

    def step(self, token_ids: Sequence[int], start: int, *, want_logits: WantLogits) -> StepGenerator:
        """Run `token_ids` at positions start.. and return f32 logits [1 or B, vocab], or None for "none".

        Positions from `start` on are overwritten in the KV cache. At most `chunk` tokens.
        """
        count = len(token_ids)
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

    # --- weights

    def _feed(self, table: TableId, run: RunKernel) -> Iterator[StepEvent]:
        """Run a kernel over a table's extents in order, as many at a time as are ready."""
        extents = self._manifest.extents_of(table)
        itemsize = self._views[self._manifest.tables[table].element].itemsize
        at = extents.start
        while at < extents.stop:
            ready = self._placement.ready_run(at, extents.stop)
            if ready == 0:
                yield ExtentNeeded(at)
                continue
            begun = perf_counter_ns()
            run(self._placement.offsets[at : at + ready] // itemsize, slice(at, at + ready))
            self.kernel_ns += perf_counter_ns() - begun
            yield ExtentsConsumed(at, at + ready)
            at += ready

    def _rows(self, role: Role, layer: int, x: F32, out: F32) -> Iterator[StepEvent]:
        """out = x · tableᵀ for an output-row table."""
        table = self._manifest.get_table(role, layer)
        view = self._views[self._manifest.tables[table].element]

        def run(offsets: I64, extents: slice) -> None:
            starts, counts = self._bundle_starts[extents], self._bundle_counts[extents]
            linear.row_dot(view, offsets, starts, counts, x, out, self._threads)

        return self._feed(table, run)

    def _load_vectors(self) -> Iterator[StepEvent]:
        """Keep norms and biases as f32. They are the first extents of every model and always locked."""
        first_matrix = (
            self._manifest.get_table("attn_qkv", 0) if self.spec.tied_head else self._manifest.get_table("embed")
        )
        for extent in range(self._manifest.extents_of(first_matrix).start):
            while self._placement.offsets[extent] == NOT_RESIDENT:
                yield ExtentNeeded(extent)
        self._vectors, self._final_norm = load_vectors(self._manifest, self._arena, self._placement)

    def _embed(self, token_ids: Sequence[int]) -> Generator[StepEvent, object, None]:
        """Rows of the embedding into the residual stream, those that are not resident by request."""
        table_id = self._manifest.get_table("embed")
        table = self._manifest.tables[table_id]
        extents = self._manifest.extents_of(table_id)
        starts = self._bundle_starts[extents.start : extents.stop]
        unique, places = np.unique(np.asarray(token_ids, np.uint32), return_inverse=True)
        missing: list[int] = []
        for i, row in enumerate(unique.tolist()):
            extent = extents.start + int(np.searchsorted(starts, row, side="right")) - 1
            offset = int(self._placement.offsets[extent])
            if offset == NOT_RESIDENT:
                missing.append(i)
            else:
                at = offset + (row - int(self._bundle_starts[extent])) * table.bundle_bytes
                self._place_row(at, table.element, places == i)
        for first in range(0, len(missing), self._row_slots):
            wanted = missing[first : first + self._row_slots]
            offsets = yield RowsNeeded(table_id, unique[wanted])
            assert isinstance(offsets, np.ndarray)
            for i, at in zip(wanted, offsets.tolist(), strict=True):
                self._place_row(at, table.element, places == i)

    def _place_row(self, at: int, element: str, positions: npt.NDArray[np.bool_]) -> None:
        size = self.spec.hidden_size * self._views[element].itemsize
        row = widen_array(self._arena[at : at + size], element) * np.float32(self.spec.embed_scale)
        self._buffers.residual[: len(positions)][positions] = row

    # --- the layers

    def _attention(self, layer: int, start: int, count: int) -> Iterator[StepEvent]:
        spec, buffers, vectors = self.spec, self._buffers, self._vectors[layer]
        normed, qkv = buffers.normed[:count], buffers.qkv[:count]
        norm.rms_norm(buffers.residual[:count], vectors.attn_norm, spec.norm_eps, normed)
        yield from self._rows("attn_qkv", layer, normed, qkv)
        begun = perf_counter_ns()
        self._attend(layer, start, count)
        self.kernel_ns += perf_counter_ns() - begun
        branch = buffers.branch[:count]
        yield from self._rows("attn_out", layer, buffers.attended[:count], branch)
        if vectors.out_bias is not None:
            norm.add_bias(vectors.out_bias, branch)
        self._add_branch(count, vectors.attn_post_norm)

    def _attend(self, layer: int, start: int, count: int) -> None:
        spec, buffers, vectors = self.spec, self._buffers, self._vectors[layer]
        qkv = buffers.qkv[:count]
        if vectors.qkv_bias is not None:
            norm.add_bias(vectors.qkv_bias, qkv)
        if vectors.q_norm is not None and vectors.k_norm is not None:
            attention.head_norm(qkv, 0, spec.head_count, vectors.q_norm, spec.norm_eps)
            attention.head_norm(qkv, spec.q_size, spec.kv_head_count, vectors.k_norm, spec.norm_eps)
        cosines, sines = self._angles[self._rope_of[layer]]
        attention.rotate(qkv, spec.head_count + spec.kv_head_count, cosines, sines)
        cache_keys, cache_values = self._kv.keys[layer], self._kv.values[layer]
        attention.store_kv(qkv, spec.q_size, start, cache_keys, cache_values)
        attention.attend(
            qkv, start, cache_keys, cache_values, spec.windows[layer], spec.attention_scale, buffers.scores,
            buffers.attended[:count],
        )  # fmt: skip

    def _mlp(self, layer: int, count: int) -> Iterator[StepEvent]:
        spec, buffers, vectors = self.spec, self._buffers, self._vectors[layer]
        normed, sums = buffers.normed[:count], buffers.sums
        norm.rms_norm(buffers.residual[:count], vectors.mlp_norm, spec.norm_eps, normed)
        table = self._manifest.get_table("mlp", layer)
        view = self._views[self._manifest.tables[table].element]
        gelu = spec.activation == "gelu_tanh"

        def run(offsets: I64, extents: slice) -> None:
            linear.mlp(view, offsets, self._bundle_counts[extents], normed, sums, gelu)

        yield from self._feed(table, run)
        linear.take_sums(sums, buffers.branch[:count])
        self._add_branch(count, vectors.mlp_post_norm)

    def _add_branch(self, count: int, post_norm: F32 | None) -> None:
        buffers = self._buffers
        branch = buffers.branch[:count]
        if post_norm is not None:
            norm.rms_norm(branch, post_norm, self.spec.norm_eps, buffers.normed[:count])
            branch = buffers.normed[:count]
        norm.add(branch, buffers.residual[:count])

    def _head(self, count: int, want_logits: WantLogits) -> Generator[StepEvent, object, F32]:
        buffers = self._buffers
        first = 0 if want_logits == "all" else count - 1
        logits = np.empty((count, self.spec.vocab_size), np.float32) if want_logits == "all" else buffers.logits
        normed = buffers.normed[first:count]
        norm.rms_norm(buffers.residual[first:count], self._final_norm, self.spec.norm_eps, normed)
        role: Role = "embed" if self.spec.tied_head else "head"
        yield from self._rows(role, -1, normed, logits)
        return logits
