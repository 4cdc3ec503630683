"""What the compute actor drives in place of a decoder: it asks for what a step needs, in its order, and gives it back
after the time that computing would take."""

from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from time import perf_counter_ns
from typing import cast

import numpy as np
import numpy.typing as npt

from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.compute.actor import ComputeActor as ComputeActor  # imported before its process is weighed
from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.embedding import EmbeddingRows
from tidemill.actors.compute.placement import Placement
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.step_events import (
    BundlesNeeded,
    BundlesUsed,
    ExtentNeeded,
    ExtentsConsumed,
    LayerDone,
    StepEvent,
    WantLogits,
)
from tidemill.runtime.stress.arena.mixes import draw_tokens, parse_mix
from tidemill.runtime.stress.pipeline.consumer import ConsumerSpec
from tidemill.storage.arena_plan import ArenaPlan
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role

F32 = npt.NDArray[np.float32]
ORDER: tuple[Role, ...] = (
    "attn_qkv",
    "attn_out",
    "mlp_in",
    "mlp_gate",
    "mlp",
    "mlp_updown",
    "mlp_down",
)  # of roles in a layer
LINE_BYTES = 64  # of a cache: one byte of it brings it all
DRAWN_TOKENS = 32  # selections are drawn beforehand, and then repeat


class TimedDecoder:
    """The part of a Decoder that ComputeActor uses for steps of one position. `kernel_ns` is the time that it took."""

    def __init__(
        self,
        spec: ConsumerSpec,
        manifest: Manifest,
        arena: npt.NDArray[np.uint8],
        placement: Placement,
        plan: ArenaPlan,
    ) -> None:
        self.spec = manifest.decoder
        self.kernel_ns = 0
        self._manifest = manifest
        self._arena = arena
        self._placement = placement
        self._pools = plan.bundles.pool_of
        self._touches = spec.touches
        self._rows = EmbeddingRows(manifest, arena, placement, plan.row_slots)
        self._residual: F32 = np.zeros((1, manifest.decoder.hidden_size), np.float32)
        self._logits: F32 = np.zeros((1, 8), np.float32)
        layers = _tables_by_layer(manifest)
        self._layers = layers
        whole = sum(_bytes_of(manifest, table) / manifest.tables[table].layers for tables in layers for table in tables)
        self._byte_ns = spec.layer_ns * len(layers) / whole
        self._selections = _draw(spec, manifest)
        self._token = 0

    def as_decoder(self) -> Decoder:
        """For the compute actor, which wants no more of one than this has."""
        return cast(Decoder, self)

    def step(
        self, token_ids: Sequence[int], start: int, *, want_logits: WantLogits, policy: SelectionPolicy | None = None
    ) -> Generator[StepEvent, object, F32 | None]:
        """A first position is computed with everything, as a prompt is; later ones with what is drawn."""
        self._token += 1
        yield from self._rows.embed([self._token * 7919 % self.spec.vocab_size], self._residual)
        for layer, tables in enumerate(self._layers):
            for table in tables:
                if self._manifest.tables[table].is_self_contained:
                    yield from self._visit(table, layer, is_dense=start == 0)
                else:
                    yield from self._feed(table)
            yield LayerDone(layer)
        if want_logits == "none":
            return None
        yield from self._feed(self._manifest.head_table)
        return self._logits

    def take_densities(self) -> npt.NDArray[np.float64]:
        """Nothing is computed."""
        return np.zeros(7)

    def _feed(self, table: TableId) -> Iterator[StepEvent]:
        """As actors/compute/extent_layers.py runs kernels: over what is ready, in order, all planes of a run."""
        extents, planes = self._manifest.extents_of(table), self._manifest.planes_of(table)
        at = extents.start
        while at < extents.stop:
            resident = self._placement.ready_run(at, extents.stop)
            ready = resident - resident % planes
            if ready == 0:
                yield ExtentNeeded(at + resident)
                continue
            self._consume_extents(at, at + ready)
            yield ExtentsConsumed(at, at + ready)
            at += ready

    def _visit(self, table: TableId, layer: int, *, is_dense: bool) -> Generator[StepEvent, object, None]:
        place = layer - self._manifest.tables[table].layer
        channels = self._manifest.tables[table].channel_count
        drawn = self._selections[table, place]
        ids = np.arange(channels, dtype=np.uint32) if is_dense else drawn[self._token % DRAWN_TOKENS]
        bundles = self._manifest.tables[table].bundles_of(ids.astype(np.int64), layer).astype(np.uint32)
        places = yield BundlesNeeded(table, layer, bundles, not is_dense)
        assert isinstance(places, np.ndarray)
        self._consume_bundles(table, places)
        yield BundlesUsed()

    def _consume_extents(self, first: int, last: int) -> None:
        begun = perf_counter_ns()
        size = 0
        for extent in range(first, last):
            at, extent_bytes = int(self._placement.offsets[extent]), self._manifest.extents[extent].bytes
            if self._touches:
                np.bitwise_xor.reduce(self._arena[at : at + extent_bytes : LINE_BYTES])
            size += extent_bytes
        self._spend(begun, size)

    def _consume_bundles(self, table: TableId, places: npt.NDArray[np.int64]) -> None:
        begun = perf_counter_ns()
        pool = self._pools[table]
        if self._touches:
            of_pool = self._arena[pool.offset : pool.offset + pool.slots * pool.slot_bytes].reshape(pool.slots, -1)
            slots = (places - pool.offset) // pool.slot_bytes
            np.bitwise_xor.reduce(of_pool[:, ::LINE_BYTES][slots], axis=None)
        self._spend(begun, len(places) * pool.slot_bytes)

    def _spend(self, begun_ns: int, size: int) -> None:
        """The rest of what so many bytes take: on the core, as kernels do."""
        until = begun_ns + round(size * self._byte_ns)
        while (now := perf_counter_ns()) < until:
            pass
        self.kernel_ns += now - begun_ns


def _tables_by_layer(manifest: Manifest) -> Sequence[Sequence[TableId]]:
    """The matrices of each layer, in the order in which a step computes; of a group's tables in each of its layers."""
    layers: list[list[TableId]] = [[] for _ in range(manifest.decoder.layer_count)]
    for role in ORDER:
        for layer, tables in enumerate(layers):
            table = manifest.find_table(role, layer)
            if table is not None:
                tables.append(table)
    return layers


def _bytes_of(manifest: Manifest, table: TableId) -> int:
    return manifest.bytes_of(manifest.extents_of(table))


def _draw(spec: ConsumerSpec, manifest: Manifest) -> dict[tuple[TableId, int], list[Ids]]:
    parts = parse_mix(spec.mix)
    drawn: dict[tuple[TableId, int], list[Ids]] = {}
    for number, table in enumerate(manifest.tables):
        if not table.is_self_contained:
            continue
        count = max(1, round(spec.active * table.channel_count))
        for place in range(table.layers):
            stream = draw_tokens(parts, table.channel_count, count, np.random.default_rng([spec.seed, number, place]))
            drawn[TableId(number), place] = list(islice(stream, DRAWN_TOKENS))
    return drawn
