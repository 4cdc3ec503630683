"""What is decided about a pass, and what came of it."""

from dataclasses import dataclass

from tidemill.actors.compute.drafting.spec import DraftKind


@dataclass(frozen=True, slots=True)
class Choice:
    """Draft `length` tokens by `kind`; none: 0."""

    kind: DraftKind
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over: `accepted` of the `drafted` tokens were right, so it brought accepted + 1.

    `check_ns` is the wall time from the end of drafting to the sampled tokens, of which compute waited `stall_ns`;
    the check computed `positions` positions.
    """

    kind: DraftKind
    drafted: int
    accepted: int
    positions: int
    draft_ns: int
    check_ns: int
    stall_ns: int

    @property
    def tokens(self) -> int:
        return self.accepted + 1

    @property
    def total_ns(self) -> int:
        return self.draft_ns + self.check_ns
