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
from tidemill.actors.compute.coarse_layers import CoarseLayers
from tidemill.actors.compute.densities import Densities
from tidemill.actors.compute.embedding import EmbeddingRows
from tidemill.actors.compute.extent_layers import ExtentLayers
from tidemill.actors.compute.kernels import attention, norm
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS
from tidemill.actors.compute.kv_cache import KVCache
from tidemill.actors.compute.masking import Masking
from tidemill.actors.compute.placement import NOT_RESIDENT, Placement
from tidemill.actors.compute.rope import angles, inverse_frequencies
from tidemill.actors.compute.selection.foresight import Foresight
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import (
    ExtentNeeded,
    LayerDone,
    StepEvent,
    StepGenerator,
    WantLogits,
)
from tidemill.actors.compute.vectors import NOTHING, LayerVectors, load_vectors
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
        self._masking = masking
        self._embedding = EmbeddingRows(manifest, arena, placement, row_slots)
        self._kv = KVCache(self.spec, context)
        # Kernels use a buffer for each thread that numba may run them on, which is `threads` in an actor's process.
        most_threads = max(threads, numba.config.NUMBA_NUM_THREADS)
        self._buffers = Activations(manifest, chunk, most_threads, context)
        self.extents = ExtentLayers(manifest, arena, placement, self._buffers, masking=masking, threads=threads)
        self._coarse = CoarseLayers(manifest, arena, placement, self._buffers, threads=threads)
        self._densities = masking.densities if masking is not None else Densities()
        self._bundles: BundleLayers | None = None
        if manifest.layout != "dense":
            buffers = BundleBuffers(manifest, chunk, most_threads)
            self._bundles = BundleLayers(manifest, arena, buffers, threads=threads, densities=self._densities)
            self._bundles.foresight = foresight
        ropes = list({self.spec.rope, self.spec.local_rope or self.spec.rope})
        self._rope_of = [ropes.index(self.spec.rope_of(layer)) for layer in range(self.spec.layer_count)]
        self._frequencies = [inverse_frequencies(rope, self.spec.head_size) for rope in ropes]
        self._angles: list[tuple[F32, F32]] = []  # of the step under way, one pair per rope
        self._vectors: list[LayerVectors] = []
        self._final_norm: F32 = NOTHING
        self._logits = np.empty((0, self.spec.vocab_size), np.float32)
        self._eps = np.float32(self.spec.norm_eps)

    @property
    def kernel_ns(self) -> int:
        """Spent in kernels since the decoder was made."""
        bundles_ns = self._bundles.kernel_ns if self._bundles is not None else 0
        return self._kernel_ns + self.extents.kernel_ns + self._coarse.kernel_ns + bundles_ns

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
        yield from self._embedding.embed(token_ids, self._buffers.residual[:count])
        for layer in range(self.spec.layer_count):
            yield from self._attention(layer, start, count)
            yield from self._mlp(layer, count)
            yield LayerDone(layer)
        if want_logits == "none":
            return None
        return (yield from self._head(count, want_logits))

    def draft_step(self, token_id: int, position: int) -> Generator[StepEvent, object, F32]:
        """Run one token with plane 0 of every matrix alone → f32 logits [vocab], overwritten by the next step.

        It writes the KV cache at `position`, as `step` does. It needs the vectors, which the first `step` loads, and a
        model with planes (`storage.arena_plan.has_planes`); it waits for extents of plane 0 only before the
        layers, and is done with none.
        """
        assert self._vectors, "the step of the prompt comes first"
        yield from self._coarse.wait()
        buffers = self._buffers
        self._angles = [angles(frequencies, position, 1) for frequencies in self._frequencies]
        yield from self._embedding.embed([token_id], buffers.residual[:1], coarse=True)
        buffers.sums[:, :1] = 0.0  # a step that was given up may have left something
        for layer in range(self.spec.layer_count):
            self._draft_layer(layer, position)
            yield LayerDone(layer)
        self._coarse.head(buffers.normed[:1], buffers.logits)
        logits: F32 = buffers.logits[0]
        return logits

    def final_states(self, count: int) -> F32:
        """What the head is multiplied with, [count, hidden], of the lap that ended; overwritten by the next."""
        return self._buffers.normed[:count]

    def take_densities(self) -> npt.NDArray[np.float64]:
        """The share of channels that each operator computed with since the last call, [7]."""
        return self._densities.take()

    def _load_vectors(self) -> Iterator[StepEvent]:
        """Keep norms and biases as f32. They are the first extents of every model and always locked."""
        embed, layers = self._manifest.extents_of(self._manifest.get_table("embed")), self._manifest.layer_extents
        for extent in range(min(embed.start, layers.start)):
            while self._placement.offsets[extent] == NOT_RESIDENT:
                yield ExtentNeeded(extent)
        self._vectors, self._final_norm = load_vectors(self._manifest, self._arena, self._placement)

    # --- the layers: `normed` holds the normed input of the branch that comes next

    def _attention(self, layer: int, start: int, count: int) -> Iterator[StepEvent]:
        buffers, vectors = self._buffers, self._vectors[layer]
        if layer == 0:
            norm.norm_rows(buffers.residual[:count], vectors.attn_norm, self._eps, buffers.normed[:count])
        yield from self._rows("qkv", "attn_qkv", layer, buffers.normed[:count], buffers.qkv[:count])
        self._attend(layer, start, count)
        yield from self._rows("o", "attn_out", layer, buffers.attended[:count], buffers.branch[:count])
        self._close(count, 0, vectors.out_bias, vectors.attn_post_norm, vectors.mlp_norm)

    def _rows(self, kind: InputKind, role: Role, layer: int, x: F32, out: F32) -> Iterator[StepEvent]:
        """out = x · W of the operators of an input kind, each with the channels that are selected for it."""
        if self._bundles is not None and self._bundles.holds(self._manifest.get_table(role, layer)):
            yield from self._bundles.channels(kind, role, layer, x, out)
        else:
            yield from self.extents.operator_rows(kind, role, layer, x, out)

    def _attend(self, layer: int, start: int, count: int) -> None:
        spec, buffers, vectors = self.spec, self._buffers, self._vectors[layer]
        cosines, sines = self._angles[self._rope_of[layer]]
        begun = perf_counter_ns()
        attention.attend(
            buffers.qkv[:count], start, cosines, sines, vectors.qkv_bias, vectors.q_norm, vectors.k_norm, self._eps,
            self._kv.keys[layer], self._kv.values[layer], spec.windows[layer], np.float32(spec.attention_scale),
            buffers.attention, buffers.ones, buffers.attended[:count],
        )  # fmt: skip
        self._kernel_ns += perf_counter_ns() - begun

    def _mlp(self, layer: int, count: int) -> Iterator[StepEvent]:
        buffers, vectors = self._buffers, self._vectors[layer]
        normed, branch, parts = buffers.normed[:count], buffers.branch[:count], MLP_PARTS
        match self._manifest.layout:
            case "dense":
                yield from self.extents.mlp(layer, normed)
            case "input-channel":
                assert self._bundles is not None
                yield from self._bundles.mlp_by_channels(layer, normed, branch)
                parts = 0
            case "gate-first":
                assert self._bundles is not None
                gates = self._bundles.gates(count)
                yield from self.extents.rows("mlp_gate", layer, normed, gates)
                self._bundles.activate(gates)
                yield from self._bundles.neurons(layer, normed, buffers.sums, gates, self._next_input(layer))
            case "neuron":
                assert self._bundles is not None
                yield from self._bundles.neurons(layer, normed, buffers.sums, None, self._next_input(layer))
        self._close(count, parts, NOTHING, vectors.mlp_post_norm, self._norm_behind(layer))

    def _norm_behind(self, layer: int) -> F32:
        return self._final_norm if layer + 1 == self.spec.layer_count else self._vectors[layer + 1].attn_norm

    def _draft_layer(self, layer: int, position: int) -> None:
        """As `_attention` and `_mlp`, of one position and with plane 0 alone."""
        buffers, vectors = self._buffers, self._vectors[layer]
        normed = buffers.normed[:1]
        if layer == 0:
            norm.norm_rows(buffers.residual[:1], vectors.attn_norm, self._eps, normed)
        self._coarse.rows("attn_qkv", layer, normed, buffers.qkv[:1])
        self._attend(layer, position, 1)
        self._coarse.rows("attn_out", layer, buffers.attended[:1], buffers.branch[:1])
        self._close(1, 0, vectors.out_bias, vectors.attn_post_norm, vectors.mlp_norm)
        self._coarse.mlp(layer, normed)
        self._close(1, MLP_PARTS, NOTHING, vectors.mlp_post_norm, self._norm_behind(layer))

    def _next_input(self, layer: int) -> Callable[[], F32] | None:
        """Of one position: what the next layer's MLP would be given if no branch came in between."""
        if layer + 1 == self.spec.layer_count:
            return None

        def norm_residual() -> F32:
            normed = np.empty((1, self.spec.hidden_size), np.float32)
            norm.norm_rows(self._buffers.residual[:1], self._vectors[layer + 1].mlp_norm, self._eps, normed)
            return normed

        return norm_residual

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
        logits = self._logits_of(count) if want_logits == "all" else buffers.logits
        role = self._manifest.tables[self._manifest.head_table].role
        yield from self.extents.rows(role, MODEL_LAYER, buffers.normed[first:count], logits)
        return logits

    def _logits_of(self, count: int) -> F32:
        """Room for the logits of several positions, kept for the next time."""
        if count > len(self._logits):
            self._logits = np.empty((count, self.spec.vocab_size), np.float32)
        return self._logits[:count]
