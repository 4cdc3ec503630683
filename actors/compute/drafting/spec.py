"""What a cell is asked to draft with. Which draft a pass takes, and how long it is, is the chooser's."""

from typing import Literal

import msgspec

# none: plain decoding; ngram: what followed the same tokens before; planes: the model's own first plane; model: another
DraftKind = Literal["none", "ngram", "planes", "model"]

MOST_DRAFTED = 15  # a check of one more position is the widest batch of the decoding kernels


class DraftSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`kinds` in order of preference, "none" left out: plain decoding is always among the choices."""

    kinds: tuple[DraftKind, ...]
    most: int = MOST_DRAFTED  # tokens drafted in a pass
    fixed_length: int | None = None  # draft so many in every pass that has room, whatever it brings


def check_drafts(spec: DraftSpec) -> DraftSpec:
    """Raises ValueError naming the value and what is accepted."""
    if "none" in spec.kinds or len(set(spec.kinds)) != len(spec.kinds):
        raise ValueError(f"kinds of drafts are {', '.join(spec.kinds)}; accepted: each of ngram, planes, model once")
    if not 1 <= spec.most <= MOST_DRAFTED:
        raise ValueError(f"the most drafted tokens are {spec.most}, accepted: 1 to {MOST_DRAFTED}")
    if spec.fixed_length is not None and not 1 <= spec.fixed_length <= spec.most:
        raise ValueError(f"the draft length is {spec.fixed_length}, accepted: 1 to {spec.most}")
    return spec
