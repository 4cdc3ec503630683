"""Places on flash that every token reads again."""

from collections.abc import Sequence

from tidemill.storage.arena_plan import ArenaPlan
from tidemill.storage.manifest import Extent, Manifest


def streamed_extents(manifest: Manifest, plan: ArenaPlan) -> Sequence[tuple[int, Extent]]:
    """(id, extent) of those that this arena does not keep. Of single bundles none can be named."""
    lap = [*manifest.layer_extents, *manifest.head_extents]
    return [
        (i, manifest.extents[i])
        for i in lap
        if not plan.is_locked(i) and not manifest.tables[manifest.extents[i].table].is_self_contained
    ]


def bundle_extents(manifest: Manifest) -> Sequence[tuple[int, Extent]]:
    """(id, extent) of single bundles."""
    return [(i, e) for i, e in enumerate(manifest.extents) if manifest.tables[e.table].is_self_contained]
