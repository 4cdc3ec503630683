import pytest

from tests.fakes.emulated import FakeDrive, emulation
from tidemill.storage.devices.emulated.spec import table_of

MIB = 1 << 20


def test_pauses_come_at_their_period_and_nothing_ends_in_one() -> None:
    """A drive that reads on and on: 1 MiB takes 1.94 ms, or more by a pause of 50 ms every 200 on average."""
    drive = FakeDrive("emulate:sata,jitter=0,gc=50ms/200ms,seed=4")
    usual = table_of(emulation("emulate:sata")).seconds(MIB, 1)
    took = drive.seconds([MIB] * 5000)
    paused = [seconds for seconds in took if seconds > 0.02]
    assert {round(seconds - usual, 6) for seconds in paused} == {0.05}
    assert all(seconds == pytest.approx(usual, abs=1e-6) for seconds in took if seconds < 0.02)
    assert sum(took) / len(paused) == pytest.approx(0.25, rel=0.1)


def test_a_drive_throttles_once_it_is_hot_and_recovers_by_rest() -> None:
    drive = FakeDrive("emulate:sata,jitter=0,throttle=25%/2s", depth=1)
    usual = table_of(emulation("emulate:sata")).seconds(MIB, 1)
    took = drive.seconds([MIB] * 1500)
    cool = [i for i, seconds in enumerate(took) if seconds < 1.01 * usual]
    assert cool == list(range(len(cool)))
    assert sum(took[: len(cool)]) == pytest.approx(2.0, rel=0.01)
    assert took[-1] == pytest.approx(4 * usual, rel=0.01)
    drive.clock.now_ns += 900_000_000  # not enough rest
    assert drive.seconds([MIB]) == pytest.approx([4 * usual], rel=0.01)
    drive.clock.now_ns += 200_000_000
    assert drive.seconds([MIB]) == pytest.approx([usual], rel=0.01)


@pytest.mark.parametrize("moment", ["50ms", "20MiB"])
def test_a_stall_comes_once_and_lasts_as_said(moment: str) -> None:
    took = FakeDrive(f"emulate:sata,jitter=0,fault=stall:3s@{moment}").seconds([MIB] * 60)
    longer = [(i, seconds) for i, seconds in enumerate(took) if seconds > 1]
    assert [i for i, _ in longer] == [20 if moment == "20MiB" else 25]
    assert longer[0][1] == pytest.approx(3.0, abs=0.01)


def test_time_counts_from_the_first_read() -> None:
    drive = FakeDrive("emulate:sata,jitter=0,fault=stall:3s@50ms")
    drive.clock.now_ns += 3_600_000_000_000
    assert max(drive.seconds([MIB] * 10)) < 1
