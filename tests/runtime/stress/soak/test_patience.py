"""A deadline counts the time in which the one who waits ran."""

from tidemill.runtime.stress.soak.patience import TICK_S, Patience


def test_it_is_over_after_so_much_waiting_and_no_earlier() -> None:
    now = 0.0
    patience = Patience(3 * TICK_S, clock=lambda: now)
    ticks = 0
    while not patience.is_over:
        now += patience.wait_s
        ticks += 1
    assert ticks == 3


def test_time_in_which_everything_was_stopped_does_not_count() -> None:
    now = 0.0
    patience = Patience(10.0, clock=lambda: now)
    now += 3600
    assert not patience.is_over
    assert patience.wait_s == TICK_S
