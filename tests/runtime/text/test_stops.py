import itertools

from hypothesis import given
from hypothesis import strategies as st

from tidemill.runtime.text.stops import StopMatcher


@given(
    text=st.text("ab\n", max_size=40),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 40)),
)
def test_a_stop_is_found_across_any_pieces_and_nothing_of_it_is_shown(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    matcher = StopMatcher(stops)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    shown = "".join(matcher.feed(text[a:b]) for a, b in itertools.pairwise(edges))
    shown += matcher.finish()
    # the first place where a whole stop has come: the earliest end, then the earliest start of those that are there
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert matcher.stopped == bool(ends)
    if not ends:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)


def test_what_might_become_a_stop_is_held_back_and_given_out_in_the_end() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("the E") == "the "
    assert matcher.feed("N") == ""
    assert matcher.feed("T") == "ENT"
    assert matcher.feed(" EN") == " "
    assert matcher.finish() == "EN"
