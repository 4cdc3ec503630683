import pytest

from tidemill.runtime.launchers import exit_words
from tidemill.runtime.launchers.exit_words import describe_exit


@pytest.mark.parametrize(
    ("status", "before", "now", "says"),
    [
        (-9, 0, 1, "out of memory: the memory cgroup counted 1 such kill"),
        (-9, 3, 3, "somebody killed it"),
        (-9, None, None, "somebody killed it"),
        (-11, 0, 1, r"killed by signal 11 \(SIGSEGV\)$"),
        (3, 0, 0, "exit status 3"),
        (None, 0, 0, "does not answer"),
    ],
)
def test_an_end_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, status: int | None, before: int | None, now: int | None, says: str
) -> None:
    monkeypatch.setattr(exit_words, "out_of_memory_kills", lambda: now)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(describe_exit(status, before))
