import msgspec

from tidemill.actors.compute.drafting.spec import DraftSpec
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.storage.arena_plan import ArenaPlan
from tidemill.storage.draft_model import DraftModel


class ComputeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    plan: ArenaPlan
    context: int  # positions that the KV cache holds
    chunk: int  # most positions per prefill chunk; part of the bits, so it never depends on the ceiling
    threads: int
    decode_selection: SelectionSpec | None = None  # lossy: what decoded positions are computed with
    selections: tuple[SelectionSpec, ...] = ()  # lossy variants that windows are evaluated under
    traces: bool = False  # tells the engine what decoded positions select
    draft: DraftSpec = DraftSpec(kinds=())
    draft_model: DraftModel | None = None  # with drafts of kind model: a second decoder over the same arena
    window: int = 0  # most tokens of a window to be evaluated; 0: none will be
