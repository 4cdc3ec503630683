"""What one pass over a model reads and computes with, given what the arena keeps. Pure; knows bytes, not seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.actors.compute.kv_cache import kv_cache_bytes
from tidemill.storage.arena_plan import ArenaPlan, align_up, row_slot_bytes
from tidemill.storage.bundle_plan import bundle_tables, slot_bytes
from tidemill.storage.manifest import ELEMENT_BYTES, Manifest

WHOLE_READ_BYTES = 512 << 10  # of bundles that lie beside one another and are all wanted
KV_POSITIONS = 4096  # a cache so large that what it is rounded up by is nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One part of a pass: all layers, or the head."""

    read_sizes: tuple[int, ...]  # of each streamed extent, in bytes on flash, as far as whole blocks are read
    decoded_bytes: dict[str, int]  # streamed, by codec that the reader undoes
    weight_bytes: dict[str, int]  # computed on, as they lie in the arena, by kind of stored element
    weights: int  # elements computed on

    @property
    def streamed_bytes(self) -> int:
        return sum(self.read_sizes)

    @property
    def active_bytes(self) -> int:
        return sum(self.weight_bytes.values())

    @property
    def kind(self) -> str:
        """The kind of stored element that most bytes are of."""
        return max(self.weight_bytes, key=lambda kind: self.weight_bytes[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    layers: Work
    head: Work
    layer_count: int
    load_sizes: tuple[int, ...]  # of the extents that are locked: read once
    row_bytes: int  # of the embedding row of a token, when it has to be read
    ring_bytes: int
    kv_bytes_per_position: int  # read by attention for each position before
    attention_flop_per_pair: int  # per query position and position that it sees


def plan_workload(manifest: Manifest, plan: ArenaPlan, *, with_bundles: bool = True) -> Workload:
    """`with_bundles` False: without the tables whose bundles come one by one. With them: a pass that uses all of them,
    as a prompt's, in which what residency may not keep is read in large pieces."""
    spec = manifest.decoder
    embed = manifest.extents_of(manifest.get_table("embed"))
    return Workload(
        layers=_layers_work(manifest, plan, with_bundles=with_bundles),
        head=_work(manifest, plan, manifest.head_extents),
        layer_count=spec.layer_count,
        load_sizes=tuple(align_up(manifest.extents[i].stored_bytes) for i in plan.locked_extents),
        row_bytes=0 if all(plan.is_locked(i) for i in embed) else row_slot_bytes(manifest),
        ring_bytes=plan.ring_bytes,
        kv_bytes_per_position=kv_cache_bytes(spec, KV_POSITIONS) // KV_POSITIONS,
        attention_flop_per_pair=4 * spec.layer_count * spec.q_size,
    )


def _layers_work(manifest: Manifest, plan: ArenaPlan, *, with_bundles: bool) -> Work:
    apart = bundle_tables(manifest)
    work = _work(manifest, plan, [i for i in manifest.layer_extents if manifest.extents[i].table not in apart])
    if not with_bundles:
        return work
    sizes, active, weights = [*work.read_sizes], dict(work.weight_bytes), work.weights
    for cached in plan.bundles.tables:
        table = apart[cached.table]
        size = slot_bytes(table)
        active[table.kind] = active.get(table.kind, 0) + table.bundle_count * size
        weights += table.bundle_count * table.bundle_elements
        missing = sum(cached.channels - quota for quota in cached.quotas) * size
        sizes += [min(WHOLE_READ_BYTES, missing - start) for start in range(0, missing, WHOLE_READ_BYTES)]
    return Work(read_sizes=tuple(sizes), decoded_bytes=work.decoded_bytes, weight_bytes=active, weights=weights)


def _work(manifest: Manifest, plan: ArenaPlan, extents: Sequence[int]) -> Work:
    read_sizes: list[int] = []
    decoded: dict[str, int] = {}
    active: dict[str, int] = {}
    weights = 0
    for i in extents:
        extent, table = manifest.extents[i], manifest.tables[manifest.extents[i].table]
        kind = table.kind
        active[kind] = active.get(kind, 0) + extent.bytes
        if extent.plane == 0:
            weights += (extent.bundle_stop - extent.bundle_start) * table.bundle_elements
        if not plan.is_locked(i):
            codec = table.planes[extent.plane].codec
            read_sizes.append(align_up(extent.stored_bytes))
            decoded[codec] = decoded.get(codec, 0) + extent.bytes
    return Work(read_sizes=tuple(read_sizes), decoded_bytes=decoded, weight_bytes=active, weights=weights)


def element_bytes(work: Work) -> float:
    """Mean bytes of a weight as it lies in the arena."""
    return work.active_bytes / work.weights if work.weights else float(ELEMENT_BYTES["bf16"])
