import pytest

from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.launchers.launcher import ActorDiedError, OutOfMemoryError
from tidemill.runtime.options import choose_restarts
from tidemill.runtime.restarts import MOST_RESTARTS, Restarts

DEATH = ActorDiedError("the reader actor (process 7) was killed by signal 9 (SIGKILL)")


def test_deaths_in_a_row_are_bounded_and_tokens_end_the_row() -> None:
    restarts = Restarts(2)
    for _ in range(3):
        assert restarts.admit(DEATH)
        assert restarts.admit(DEATH)
        assert restarts.end == "no token came after 2 restarts"
        assert not restarts.admit(DEATH)
        restarts.progressed()
    assert not restarts.end
    assert restarts.count == 6


def test_no_restarts_are_no_words_either() -> None:
    assert not Restarts(0).admit(DEATH)
    assert not Restarts(0).end


def test_memory_that_was_too_small_would_be_so_again() -> None:
    assert not Restarts(MOST_RESTARTS).admit(OutOfMemoryError("killed: out of memory"))


def test_a_selection_is_not_computed_again() -> None:
    selection = SelectionSpec(policy="topk", sparsity=0.5)
    assert choose_restarts(None, None) == choose_restarts(True, None) == MOST_RESTARTS
    assert choose_restarts(None, selection) == choose_restarts(False, selection) == choose_restarts(False, None) == 0
    with pytest.raises(ValueError, match="what follows would differ"):
        choose_restarts(True, selection)
