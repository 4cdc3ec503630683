"""From wanted bundles to reads: where they lie, which of them one read brings, and what a read must show to be
believed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.messages import GatherBundles
from tidemill.actors.packing import unpack_ids
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.bundle_plan import BundlePlan
from tidemill.storage.codecs.bf16_bundles import find_bad_bundle
from tidemill.storage.codecs.bundle_digest import verify_bundles
from tidemill.storage.devices.gather import I64, GatherRequest
from tidemill.storage.errors import CorruptDataError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest
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

    def plan(self, message: GatherBundles) -> tuple[GatherRequest, GatherCount]:
        bundles = unpack_ids(message.bundles).astype(np.int64)
        places, pool = self._places[message.table], self._plan.pool_of[message.table]
        found = self._reads.plan(*places.find(bundles), places.bundle_bytes)
        slots = unpack_ids(message.slots).astype(np.int64)
        is_coded = self._manifest.tables[message.table].planes[0].codec == "bf16-bundles"
        request = GatherRequest(
            ticket=message.ticket,
            shards=found.shards,
            offsets=found.offsets,
            edges=np.append(found.first, len(bundles)),
            starts=found.places,
            slots=slots,
            bundle_bytes=places.bundle_bytes,
            pool_offset=pool.offset,
            check=self._check(message.table, bundles),
            check_placed=self._check_placed(message.table, bundles, slots) if is_coded else None,
        )
        return request, GatherCount(found.requests, found.read_bytes, found.useful_bytes)

    def _check(self, table_id: int, bundles: I64) -> Callable[[memoryview, I64, int], None]:
        """Of the bundles that one read brought, at bytes `starts` of it, from bundle `first` of the gather on."""
        size = self._places[table_id].bundle_bytes
        ids = bundles.tolist()

        def check(read: memoryview, starts: I64, first: int) -> None:
            verify_bundles(read, starts, size, table_id, ids[first : first + len(starts)])

        return check

    def _check_placed(
        self, table_id: int, bundles: I64, slots: I64
    ) -> Callable[[npt.NDArray[np.uint8], int, int], None]:
        """A whole bundle may still be a hostile one, whose lists kernels could not follow."""
        table, pool = self._manifest.tables[table_id], self._plan.pool_of[table_id]

        def check(arena: npt.NDArray[np.uint8], first: int, last: int) -> None:
            bad = find_bad_bundle(arena, pool.offset + slots[first:last] * pool.slot_bytes, table)
            if bad is not None:
                raise CorruptDataError(
                    f"bundle {int(bundles[first + bad])} of table {table_id} has exceptions out of order or out of "
                    "range, though its digest is right: whoever wrote the model wrote it so; convert the model again"
                )

        return check
