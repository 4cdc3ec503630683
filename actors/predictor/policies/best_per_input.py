"""The combination: for each input kind the policy that measured best."""

from collections.abc import Mapping, Sequence

from tidemill.actors.predictor.policies.policy import F32, INPUT_KINDS, InputKind, PreloadPolicy, Seen


class BestPerInputPolicy:
    """Members are told everything, once each even where one serves several kinds; each scores its own kinds."""

    def __init__(self, members: Mapping[InputKind, PreloadPolicy]) -> None:
        self._members = members
        self._distinct: Sequence[PreloadPolicy] = list({id(member): member for member in members.values()}.values())

    def begin_sequence(self) -> None:
        for member in self._distinct:
            member.begin_sequence()

    def begin_position(self, position: int) -> None:
        for member in self._distinct:
            member.begin_position(position)

    def observe(self, seen: Seen) -> None:
        for member in self._distinct:
            member.observe(seen)

    def score(self, layer: int, kind: InputKind, source_layer: int) -> F32 | None:
        member = self._members.get(kind)
        return None if member is None else member.score(layer, kind, source_layer)


def choose_best(recalls: Mapping[tuple[str, InputKind], float]) -> dict[InputKind, str]:
    """For each input kind the policy of the highest measured recall; of equal ones the first named."""
    best: dict[InputKind, str] = {}
    for kind in INPUT_KINDS:
        measured = [(name, recall) for (name, of_kind), recall in recalls.items() if of_kind == kind]
        if measured:
            best[kind] = max(measured, key=lambda pair: pair[1])[0]
    return best
