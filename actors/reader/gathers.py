"""From wanted bundles to reads: where they lie, which of them one read brings, and what a read must show to be
believed."""

from typing import NamedTuple

import numpy as np

from tidemill.actors.messages import GatherBundles
from tidemill.actors.packing import unpack_ids
from tidemill.actors.reader.settle_reads import SettleReads
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.bundle_plan import BundlePlan
from tidemill.storage.codecs.bf16_bundles import capacity_of
from tidemill.storage.devices.gather import I64, BundleCheck, GatherRequest
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import ALIGNMENT_BYTES, Manifest
from tidemill.storage.read_choices import AS_MEASURED, DEARER, ReadChoices

DENSE = 0.9  # of a layer's bundles: they are read as a whole, whatever the choice


class GatherCount(NamedTuple):
    """What a gather asks of the device, and how much of it is wanted."""

    reads: int
    read_bytes: int
    useful_bytes: int
    begun_ns: int | None = None  # where it says something of choices


class GatherPlanner:
    def __init__(self, manifest: Manifest, plan: BundlePlan, choices: ReadChoices, *, is_verified: bool = True) -> None:
        self._is_verified = is_verified
        self._manifest = manifest
        self._plan = plan
        self._choices = choices
        self._channels = {cached.table: cached.channels for cached in plan.tables}
        gathers = sum(len(cached.quotas) for cached in plan.tables)
        self._settle = SettleReads(len(DEARER), AS_MEASURED, gathers=gathers)
        self._places = {cached.table: BundlePlaces(manifest, TableId(cached.table)) for cached in plan.tables}

    def plan(self, message: GatherBundles, now_ns: int, *, is_first: bool) -> tuple[GatherRequest, GatherCount]:
        """Told when it is submitted, and whether it is a whole one that was not before."""
        bundles = unpack_ids(message.bundles).astype(np.int64)
        places, pool = self._places[message.table], self._plan.pool_of[message.table]
        found = self._choices.plan(self._settle.choice, *places.find(bundles), places.bundle_bytes)
        request = GatherRequest(
            ticket=message.ticket,
            shards=found.shards,
            offsets=found.offsets,
            edges=np.append(found.first, len(bundles)),
            starts=found.places,
            slots=unpack_ids(message.slots).astype(np.int64),
            bundle_bytes=places.bundle_bytes,
            pool_offset=pool.offset,
            alignment=ALIGNMENT_BYTES,
            check=self._check(message.table, bundles),
        )
        is_telling = message.demand and is_first and len(bundles) < DENSE * self._channels[message.table]
        begun_ns = now_ns if is_telling else None
        return request, GatherCount(found.requests, found.read_bytes, found.useful_bytes, begun_ns)

    def learn(self, count: GatherCount, now_ns: int) -> None:
        """It has ended."""
        if count.begun_ns is not None:
            self._settle.see((now_ns - count.begun_ns) / 1e9, count.useful_bytes)

    def _check(self, table_id: int, bundles: I64) -> BundleCheck | None:
        """A whole bundle may still be a hostile one, whose lists kernels could not follow."""
        table = self._manifest.tables[table_id]
        verified = self._is_verified
        if table.planes[0].codec != "bf16-bundles":
            return BundleCheck(table_id, bundles) if verified else None
        return BundleCheck(table_id, bundles, table.segments, capacity_of(table), by_digest=verified)
