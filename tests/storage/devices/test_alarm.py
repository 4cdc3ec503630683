import select
import time
from collections.abc import Iterator

import pytest

from tidemill.storage.devices.alarm import TimerAlarm

MS = 1_000_000


@pytest.fixture
def alarm() -> Iterator[TimerAlarm]:
    made = TimerAlarm()
    yield made
    made.close()
    made.close()  # twice is fine


def rings(alarm: TimerAlarm, within_s: float) -> bool:
    return bool(select.select(alarm.wake_fds, [], [], within_s)[0])


def test_it_rings_when_it_is_time_and_not_before(alarm: TimerAlarm) -> None:
    at_ns = time.perf_counter_ns() + 5 * MS
    alarm.set(at_ns)
    assert not rings(alarm, 0) or time.perf_counter_ns() >= at_ns
    assert rings(alarm, 10.0)
    assert time.perf_counter_ns() >= at_ns


def test_a_moment_that_has_passed_rings_at_once_and_again_when_it_is_set_again(alarm: TimerAlarm) -> None:
    for _ in range(2):
        alarm.set(1)
        assert rings(alarm, 10.0)


def test_it_is_silenced_by_no_moment_and_by_a_later_one(alarm: TimerAlarm) -> None:
    alarm.set(1)
    assert rings(alarm, 10.0)
    alarm.set(None)
    assert not rings(alarm, 0)
    alarm.set(1)
    assert rings(alarm, 10.0)
    alarm.set(time.perf_counter_ns() + 3600 * 1000 * MS)
    assert not rings(alarm, 0)
