"""What memory drafts from plane 0 need, for those who choose a ceiling."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tidemill.runtime.cell import measure_demands
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.ledger import least_ceiling_bytes
from tidemill.runtime.options import EngineOptions
from tidemill.storage.arena_plan import has_planes, plane_bytes
from tidemill.storage.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanesMemory:
    """`ceiling_bytes`: the smallest --ram whose arena holds plane 0; at it, plane 1 streams."""

    plane_0_bytes: int
    plane_1_bytes: int
    context: int
    ceiling_bytes: int


def find_planes_memory(manifest: Manifest, options: EngineOptions, processes: Mapping[str, int]) -> PlanesMemory | None:
    """None for a model that has no planes to draft from. `processes`: what each weighs."""
    if not has_planes(manifest):
        return None
    options = replace(options, draft=DraftOptions(kind="planes"))
    demands = measure_demands(manifest, options, dict(processes))
    return PlanesMemory(
        plane_0_bytes=plane_bytes(manifest, 0),
        plane_1_bytes=plane_bytes(manifest, 1),
        context=options.context,
        ceiling_bytes=least_ceiling_bytes(manifest, demands, lock_first="plane-0"),
    )
