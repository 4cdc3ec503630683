"""What the planes of a model's matrices take, and whether plane 0 alone can draft. Pure."""

from tidemill.storage.arena_plan import align_up
from tidemill.storage.manifest import Manifest


def can_draft_planes(manifest: Manifest) -> bool:
    """Whether every matrix of layers and head lies in two planes, of which the first makes coarse weights."""
    matrices = {manifest.extents[i].table for i in (*manifest.layer_extents, *manifest.head_extents)}
    return manifest.layout == "dense" and all(len(manifest.tables[table].planes) == 2 for table in matrices)


def plane_bytes(manifest: Manifest, plane: int) -> int:
    """What one plane of all matrices of layers and head takes in an arena, in whole slots."""
    wanted = (*manifest.layer_extents, *manifest.head_extents)
    return sum(align_up(manifest.extents[i].bytes) for i in wanted if manifest.extents[i].plane == plane)
