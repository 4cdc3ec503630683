"""From wanted bundles to reads: where they lie, which of them one read brings, and what a read must show to be
believed."""

from typing import NamedTuple

import numpy as np

from tidemill.actors.messages import GatherBundles
from tidemill.actors.packing import unpack_ids
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.bundle_plan import BundlePlan
from tidemill.storage.codecs.bf16_bundles import capacity_of
from tidemill.storage.devices.gather import I64, BundleCheck, GatherRequest
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import ALIGNMENT_BYTES, Manifest
from tidemill.storage.read_plan import ReadPlanner


class GatherCount(NamedTuple):
    """What a gather asks of the device, and how much of it is wanted."""

    reads: int
    read_bytes: int
    useful_bytes: int


class GatherPlanner:
    def __init__(self, manifest: Manifest, plan: BundlePlan, reads: ReadPlanner) -> None:
        self._manifest = manifest
        self._plan = plan
        self._reads = reads
        self._places = {cached.table: BundlePlaces(manifest, TableId(cached.table)) for cached in plan.tables}

    def plan_by(self, reads: ReadPlanner) -> None:
        """From now on."""
        self._reads = reads

    def plan(self, message: GatherBundles) -> tuple[GatherRequest, GatherCount]:
        bundles = unpack_ids(message.bundles).astype(np.int64)
        places, pool = self._places[message.table], self._plan.pool_of[message.table]
        found = self._reads.plan(*places.find(bundles), places.bundle_bytes)
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
        return request, GatherCount(found.requests, found.read_bytes, found.useful_bytes)

    def _check(self, table_id: int, bundles: I64) -> BundleCheck:
        """A whole bundle may still be a hostile one, whose lists kernels could not follow."""
        table = self._manifest.tables[table_id]
        if table.planes[0].codec != "bf16-bundles":
            return BundleCheck(table_id, bundles)
        return BundleCheck(table_id, bundles, table.segments, capacity_of(table))
