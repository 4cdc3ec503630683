"""What is decided about a pass, and what came of it."""

from dataclasses import dataclass

from tidemill.actors.compute.drafting.spec import DraftKind


@dataclass(frozen=True, slots=True)
class Choice:
    """Draft at most `length` tokens by `kind`; none: 0. `bars`: how likely the first, the first two, … have to be right
    all together for one more to be drafted behind them; none where that decides nothing."""

    kind: DraftKind
    length: int
    bars: tuple[float, ...] = ()

    def goes_on(self, drafted: int, chance: float) -> bool:
        """Behind so many tokens that are all right with that chance."""
        has_bar = 0 < drafted <= len(self.bars)
        return drafted < self.length and (not has_bar or chance >= self.bars[drafted - 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over: `accepted` of the `drafted` tokens were right, so it brought accepted + 1. Of these the first
    `echoed` are what looking back proposed, whoever drafted.

    `check_ns` is the wall time from the end of drafting to the sampled tokens, of which compute waited `stall_ns`;
    the check computed `positions` positions.
    """

    kind: DraftKind
    drafted: int
    accepted: int
    echoed: int = 0
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
