from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.belady import Belady
from tidemill.actors.arena.residency.table_residency import TableResidency

BUNDLES = 4


def best_hits(visits: list[set[int]], cached: frozenset[int], quota: int) -> int:
    """By trying every choice of what to keep after every visit."""
    if not visits:
        return 0
    reachable = cached | visits[0]
    later = max(
        best_hits(visits[1:], frozenset(kept), quota)
        for size in range(min(quota, len(reachable)) + 1)
        for kept in combinations(sorted(reachable), size)
    )
    return len(cached & visits[0]) + later


@settings(max_examples=20, deadline=None)
@given(
    visits=st.lists(st.sets(st.integers(0, BUNDLES - 1)), max_size=3), quota=st.integers(0, 2), has_prompt=st.booleans()
)
def test_no_choice_of_what_to_keep_hits_more(visits: list[set[int]], quota: int, has_prompt: bool) -> None:
    ids = [np.array(sorted(visit), np.uint32) for visit in visits]
    table = TableResidency(Belady(BUNDLES, ids), BUNDLES, quota)
    prompt = [(np.arange(BUNDLES, dtype=np.uint32), False)] if has_prompt else []
    for active, learns in [*prompt, *((active, True) for active in ids)]:
        missing = table.visit(active, learns=learns).missing
        table.stage(missing, missing.astype(np.int32))  # bundle i in slot i
        table.settle()
        table.validate()
    dense = [set(range(BUNDLES))] if has_prompt else []
    assert table.counts.hits == best_hits([*dense, *visits], frozenset(), quota)
