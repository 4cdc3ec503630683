"""The quotas and pools of a running arena by a trace's names, so that a replay plays the caches that the run had."""

from collections.abc import Iterator, Mapping

from benchmarks.replayed_trace import TableKey
from tidemill.runtime.selection_recorder import INPUT_OF
from tidemill.storage.bundle_plan import BundlePlan
from tidemill.storage.manifest import Manifest


def parts_of(manifest: Manifest, plan: BundlePlan) -> Iterator[tuple[TableKey, int, int]]:
    """(layer and input, table, place of the layer in the table) of everything that has a cache of its own."""
    for cached in plan.tables:
        table = manifest.tables[cached.table]
        for place in range(len(cached.quotas)):
            yield TableKey(table.layer + place, INPUT_OF[table.role]), cached.table, place


def arena_quotas(manifest: Manifest, plan: BundlePlan) -> Mapping[TableKey, int]:
    quotas = {cached.table: cached.quotas for cached in plan.tables}
    return {key: quotas[table][place] for key, table, place in parts_of(manifest, plan)}


def arena_pools(manifest: Manifest, plan: BundlePlan) -> Mapping[TableKey, int]:
    """Whose bundles have one size."""
    pools = {cached.table: cached.pool for cached in plan.tables}
    return {key: pools[table] for key, table, _ in parts_of(manifest, plan)}
