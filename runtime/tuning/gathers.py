"""Measures what reading single bundles takes of this machine: through the device and the read plans that decoding has,
verified and placed, on a real model's bundles."""

import select
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.messages import GatherBundles
from tidemill.actors.packing import pack_ids
from tidemill.actors.reader.gathers import GatherCount, GatherPlanner
from tidemill.runtime.assembly import find_gather_code
from tidemill.runtime.options import choose_load_mode
from tidemill.runtime.planning.constants import GATHER_BUNDLE_S
from tidemill.runtime.planning.rates import GatherRates
from tidemill.runtime.region import Region
from tidemill.storage.arena_plan import align_up
from tidemill.storage.bundle_plan import BundlePlan, BundlePool, CachedTable, bundle_tables, slot_bytes
from tidemill.storage.devices.thread_pool import ThreadPoolDevice
from tidemill.storage.errors import DeviceError
from tidemill.storage.manifest import Manifest, Table
from tidemill.storage.read_choices import ReadChoices

SHARES = (0.02, 0.1, 0.3, 0.6)  # of a layer's bundles, wanted at once: single ones, and such as are read together
SECONDS = 0.25  # for each share of each role
ANSWER_DEADLINE_S = 30.0
F64 = npt.NDArray[np.float64]


class Gathered(NamedTuple):
    """What one gather was, and what it took."""

    asked: GatherCount
    bundles: int
    seconds: float


class GatherMeter:
    """Every gather wants other bundles of another layer, so that no cache below serves it."""

    def __init__(self, model: Path, manifest: Manifest, choices: ReadChoices, *, io_depth: int) -> None:
        """Raises ValueError for a model without single bundles."""
        self._tables = bundle_tables(manifest)
        if not self._tables:
            raise ValueError(f"{model} is in layout {manifest.layout}, whose bundles are not read one by one")
        self._plan = _plan(self._tables)
        self._gathers = GatherPlanner(manifest, self._plan, choices)
        self._files = [model / shard.file for shard in manifest.shards]
        self._code = find_gather_code(manifest)
        self._depth = io_depth
        self._rng = np.random.default_rng(0)
        self._ticket = 0

    @property
    def points(self) -> int:
        return len(self._by_role()) * len(SHARES)

    def measure(self, on_point: Callable[[float], None], seconds: float = SECONDS) -> GatherRates:
        """`on_point(seconds)` is called after each. Raises DeviceError."""
        done: list[Gathered] = []
        with _region(self._plan) as region:
            mode = choose_load_mode("auto")
            device = ThreadPoolDevice(self._files, region.array, depth=self._depth, load_mode=mode, code=self._code)
            try:
                for tables in self._by_role():
                    for share in SHARES:
                        done += self._point(device, tables, share, seconds)
                        on_point(seconds)
            finally:
                device.close()
        return fit_gathers(done, self._depth)

    def _by_role(self) -> Sequence[Sequence[int]]:
        roles: dict[str, list[int]] = {}
        for index, table in self._tables.items():
            roles.setdefault(table.role, []).append(index)
        return list(roles.values())

    def _point(self, device: ThreadPoolDevice, tables: Sequence[int], share: float, budget_s: float) -> list[Gathered]:
        """The first, which is given its pages, does not count. At least one that does, however slow the drive."""
        done: list[Gathered] = []
        until = time.perf_counter() + budget_s
        while len(done) < 2 or time.perf_counter() < until:
            index = int(self._rng.choice(tables))
            table = self._tables[index]
            wanted = max(1, int(share * table.channel_count))
            channels = np.sort(self._rng.choice(table.channel_count, wanted, replace=False))
            bundles = channels * table.layers + int(self._rng.integers(table.layers))
            done.append(self._gather(device, index, bundles))
        return done[1:]

    def _gather(self, device: ThreadPoolDevice, table: int, bundles: npt.NDArray[np.int64]) -> Gathered:
        self._ticket += 1
        slots = np.arange(len(bundles))
        message = GatherBundles(self._ticket, table, pack_ids(bundles), pack_ids(slots), True)
        begun = time.perf_counter()  # planning is what a demand waits for, too
        request, asked = self._gathers.plan(
            message, 0, is_first=True
        )  # nothing is learnt of it: reads stay as measured
        device.submit_gather(request, urgent=True)
        while not (outcomes := device.outcomes()):
            if not select.select(device.wake_fds, [], [], ANSWER_DEADLINE_S)[0]:
                raise DeviceError(f"no read was answered within {ANSWER_DEADLINE_S:.0f} s; the drive hangs")
        for outcome in outcomes:
            if outcome.error is not None:
                raise DeviceError(outcome.error)
        return Gathered(asked, len(bundles), time.perf_counter() - begun)


def fit_gathers(done: Sequence[Gathered], depth: int) -> GatherRates:
    """Seconds = gather · a + reads · b + bytes · c + bundles · GATHER_BUNDLE_S with none below 0, by least squares of
    relative errors. `a` belongs to whoever waits for a gather, whatever is in it, and is left out, unless nothing else
    is told apart from it."""
    counts = np.array([(1, g.asked.reads, g.asked.read_bytes) for g in done], np.float64)
    seconds = np.array([g.seconds for g in done])
    factors = counts / seconds[:, None]
    wanted = np.maximum(0.0, 1 - GATHER_BUNDLE_S * np.array([g.bundles for g in done]) / seconds)
    _, read_s, byte_s = fit_positive(factors, wanted)
    if read_s == byte_s == 0.0:
        read_s, byte_s = fit_positive(factors[:, 1:], wanted)
    return GatherRates(depth=depth, read_s=float(read_s), byte_s=float(byte_s), bundle_s=GATHER_BUNDLE_S)


def fit_positive(factors: F64, wanted: F64) -> F64:
    """The x ≥ 0 that brings factors · x [rows, columns] closest to `wanted`; of few columns, as all subsets of them are
    tried."""
    columns = factors.shape[1]
    scale = np.maximum(np.abs(factors).max(axis=0), np.finfo(np.float64).tiny)
    best, least = np.zeros(columns), float(np.sum(wanted**2))
    for size in range(1, columns + 1):
        for chosen in combinations(range(columns), size):
            part = factors[:, chosen] / scale[list(chosen)]
            found = np.linalg.lstsq(part, wanted, rcond=None)[0]
            left = float(np.sum((part @ found - wanted) ** 2))
            if np.all(found >= 0) and left < least:
                best, least = np.zeros(columns), left
                best[list(chosen)] = found / scale[list(chosen)]
    return best


def _plan(tables: Mapping[int, Table]) -> BundlePlan:
    """A pool for every size, that holds one layer of any of its tables."""
    pools: list[BundlePool] = []
    number: dict[int, int] = {}
    offset = 0
    for size in sorted({slot_bytes(table) for table in tables.values()}):
        slots = max(table.channel_count for table in tables.values() if slot_bytes(table) == size)
        number[size] = len(pools)
        pools.append(BundlePool(offset, size, slots))
        offset += align_up(slots * size)
    cached = [
        CachedTable(i, number[slot_bytes(table)], table.channel_count, (0,) * table.layers)
        for i, table in tables.items()
    ]
    return BundlePlan(tuple(pools), tuple(cached))


@contextmanager
def _region(plan: BundlePlan) -> Iterator[Region]:
    """Memory of the arena's own sort."""
    region = Region.create("tune", plan.arena_bytes, Path(tempfile.gettempdir()))
    try:
        region.advise_huge_pages()
        yield region
    finally:
        region.close()
