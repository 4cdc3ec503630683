"""Rates of emulated drives in emulated time: as the table says, whatever the size, the depth and the pauses."""

import numpy as np
import pytest

from tests.fakes.emulated import FakeDrive, emulation, gather_of, read_of
from tidemill.storage.devices.emulated.classes import CLASSES
from tidemill.storage.devices.emulated.spec import slots_of, table_of

KIB, MIB = 1 << 10, 1 << 20
LIMITED = [name for name in CLASSES if name != "none"]
WITHIN = 0.05


@pytest.mark.parametrize("name", LIMITED)
@pytest.mark.parametrize("size", [4 * KIB, 12 * KIB, 64 * KIB, 512 * KIB, 6 * MIB])
@pytest.mark.parametrize("depth", [1, 3, 4, 16, 64])
def test_every_class_comes_out_at_every_size_and_depth(name: str, size: int, depth: int) -> None:
    """With the class's own jitter, whose mean is 1; 600 reads of a standard error of 0.3 / √600."""
    text = f"emulate:{name},seed=3"
    under_way = min(depth, slots_of(emulation(text)))
    expected = table_of(emulation(text)).rate(size, under_way)
    assert FakeDrive(text, depth=depth).rate(size, depth, 600) == pytest.approx(expected, rel=WITHIN)


@pytest.mark.slow
def test_published_points_are_what_comes_out() -> None:
    """4 KiB alone and 32 at once, and large reads, of the drives named in docs/devices.md."""
    for name, alone, many in (("nvme-gen3", 19_000, 600_000), ("nvme-gen4", 22_000, 700_000), ("sata", 13_000, 98_000)):
        assert FakeDrive(f"emulate:{name}").rate(4 * KIB, 1, 600) / 4096 == pytest.approx(alone, rel=WITHIN)
        assert FakeDrive(f"emulate:{name}", depth=32).rate(4 * KIB, 32, 900) / 4096 == pytest.approx(many, rel=WITHIN)
    ufs = FakeDrive("emulate:ufs-4.0", depth=32)
    assert ufs.rate(512 * KIB, 32, 600) == pytest.approx(3.5e9, rel=WITHIN)
    assert FakeDrive("emulate:ufs-4.0", depth=8).rate(4 * KIB, 8, 600) == pytest.approx(0.45e9, rel=WITHIN)


@pytest.mark.parametrize("name", LIMITED)
def test_a_gather_takes_what_its_reads_take_together(name: str) -> None:
    """Hundreds of small reads, as many at once as the drive has slots."""
    drive = FakeDrive(f"emulate:{name},jitter=0", depth=4)
    table, slots = table_of(emulation(f"emulate:{name}")), slots_of(emulation(f"emulate:{name}"))
    begun = drive.clock.now_ns
    drive.device.submit_gather(gather_of(1, 512, bundle_bytes=12 * KIB, apart=16 * KIB), urgent=True)
    assert drive.wait()[0].ticket == 1
    took = (drive.clock.now_ns - begun) / 1e9
    assert 512 * 12 * KIB / took == pytest.approx(table.rate(12 * KIB, min(slots, 64)), rel=WITHIN)


def test_a_small_gather_has_no_more_under_way_than_it_has_reads() -> None:
    drive = FakeDrive("emulate:nvme-gen3,jitter=0")
    table = table_of(emulation("emulate:nvme-gen3"))
    begun = drive.clock.now_ns
    drive.device.submit_gather(gather_of(1, 3), urgent=False)
    drive.wait()
    assert (drive.clock.now_ns - begun) / 1e9 == pytest.approx(table.seconds(4 * KIB, 3), rel=1e-3)


def test_each_read_of_a_gather_is_charged_by_its_size() -> None:
    """Whole blocks up to the end of its last bundle, what lies between with them."""
    drive = FakeDrive("emulate:sata,jitter=0,queue=1")
    table = table_of(emulation("emulate:sata"))
    request = gather_of(1, 2)
    begun = drive.clock.now_ns
    drive.device.submit_gather(request._replace(starts=np.array([0, 100_000])), urgent=True)
    drive.wait()
    expected = table.seconds(4096, 1) + table.seconds(-(-104_096 // 4096) * 4096, 1)
    assert (drive.clock.now_ns - begun) / 1e9 == pytest.approx(expected, rel=1e-3)


def test_overrides_take_effect() -> None:
    assert FakeDrive("emulate:nvme-gen4,rate=1GB/s", depth=8).rate(MIB, 8, 300) == pytest.approx(1e9, rel=WITHIN)
    slow = FakeDrive("emulate:none,latency=2ms").seconds([4 * KIB])
    assert slow == pytest.approx([2e-3], rel=1e-3)
    both = FakeDrive("emulate:none,latency=1ms,rate=100MB", depth=1).rate(MIB, 1, 50)
    assert both == pytest.approx(MIB / (1e-3 + MIB / 1e8), rel=1e-3)
    shallow = FakeDrive("emulate:nvme-gen3,queue=1,jitter=0", depth=32).rate(4 * KIB, 32, 100)
    assert shallow == pytest.approx(19_000 * 4096, rel=1e-3)


def test_without_limits_nothing_takes_time() -> None:
    assert FakeDrive("emulate:none").seconds([4 * KIB, MIB]) == [0.0, 0.0]


def test_jitter_scatters_about_the_mean_and_follows_the_seed() -> None:
    sizes = [64 * KIB] * 400
    steady = FakeDrive("emulate:ufs-3.1,jitter=0").seconds(sizes)
    first, again = (FakeDrive("emulate:ufs-3.1,jitter=0.5,seed=5").seconds(sizes) for _ in range(2))
    other = FakeDrive("emulate:ufs-3.1,jitter=0.5,seed=6").seconds(sizes)
    assert first == again != other
    assert max(steady) - min(steady) < 3e-9  # whole ns
    assert sum(first) == pytest.approx(sum(steady), rel=0.1)  # a standard error of 0.5 / √400
    assert min(first) < 0.6 * steady[0] < 1.6 * steady[0] < max(first)


def test_an_urgent_read_overtakes_those_that_wait_but_none_that_has_begun() -> None:
    drive = FakeDrive("emulate:sata,jitter=0", depth=2)
    for ticket in range(6):
        drive.device.submit(read_of(ticket, MIB), urgent=False)
    drive.device.submit(read_of(9, 4 * KIB), urgent=True)
    drive.device.promote([4])
    order: list[int] = []
    while len(order) < 7:
        order += [outcome.ticket for outcome in drive.wait()]
    assert set(order[:2]) <= {0, 1, 9}
    assert order.index(9) < order.index(2)
    assert order.index(4) < order.index(2)


def test_a_gather_that_nobody_waits_for_yields_to_one_that_is_urgent() -> None:
    alone = FakeDrive("emulate:ufs-3.1,jitter=0")
    alone.device.submit_gather(gather_of(1, 200), urgent=True)
    begun = alone.clock.now_ns
    alone.wait()
    took = alone.clock.now_ns - begun
    drive = FakeDrive("emulate:ufs-3.1,jitter=0")
    drive.device.submit_gather(gather_of(1, 2000), urgent=False)
    drive.device.submit_gather(gather_of(2, 200), urgent=True)
    begun = drive.clock.now_ns
    assert [outcome.ticket for outcome in drive.wait()] == [2]
    assert drive.clock.now_ns - begun < 1.2 * took


def test_cancelling_ends_what_waits_and_gathers_and_lets_a_read_end_that_has_begun() -> None:
    drive = FakeDrive("emulate:sata,jitter=0", depth=2)
    for ticket in range(4):
        drive.device.submit(read_of(ticket, MIB), urgent=False)
    begun = drive.clock.now_ns
    for ticket in (0, 3, 77):
        drive.device.cancel(ticket)
    assert [(outcome.ticket, outcome.cancelled) for outcome in drive.device.outcomes()] == [(3, True)]
    assert drive.clock.now_ns == begun
    rest: list[int] = []
    while len(rest) < 3:
        rest += [outcome.ticket for outcome in drive.wait()]
    assert sorted(rest) == [0, 1, 2]
    drive.device.submit_gather(gather_of(8, 500), urgent=True)
    drive.device.cancel(8)
    assert [(outcome.ticket, outcome.cancelled) for outcome in drive.device.outcomes()] == [(8, True)]


def test_a_cancelled_request_is_answered_only_once_nobody_writes_to_its_slot_any_more() -> None:
    drive = FakeDrive("emulate:sata", depth=1)
    drive.below.held = {2}
    for ticket in (1, 2):
        drive.device.submit(read_of(ticket, MIB), urgent=False)
    drive.device.cancel(2)
    assert drive.below.cancelled == [2]
    assert not drive.device.outcomes()
    drive.below.held.clear()
    assert [outcome.ticket for outcome in drive.device.outcomes()] == [2]


def test_a_drive_below_that_is_slower_is_told() -> None:
    drive = FakeDrive("emulate:nvme-gen4,jitter=0")
    drive.seconds([64 * KIB] * 5)
    assert drive.tallies.tolist() == [0, 0, 0]
    drive.below.held = {50}
    drive.device.submit(read_of(50, 64 * KIB), urgent=False)
    drive.clock.jump()
    assert not drive.device.outcomes()
    due = drive.clock.now_ns
    drive.clock.now_ns += 3_000_000
    drive.below.held.clear()
    assert [outcome.ticket for outcome in drive.device.outcomes()] == [50]
    assert drive.tallies.tolist() == [1, pytest.approx(drive.clock.now_ns - due, abs=2), 0]


def test_without_limits_the_drive_below_is_never_late() -> None:
    drive = FakeDrive("emulate:none,fault=eio:@1GiB")
    drive.below.held = {1}
    begun = drive.clock.now_ns
    drive.device.submit(read_of(1, 64 * KIB), urgent=False)
    assert not drive.device.outcomes()
    drive.clock.now_ns += 3_000_000
    drive.below.held.clear()
    (outcome,) = drive.device.outcomes()
    assert (outcome.begun_ns, outcome.ended_ns) == (begun, begun + 3_000_000)
    assert drive.device.busy_ns == 3_000_000
    assert drive.tallies.tolist() == [0, 0, 0]


def test_outcomes_say_when_the_emulated_drive_had_them() -> None:
    """Two at once, the third after one of them."""
    drive = FakeDrive("emulate:sata,jitter=0", depth=2)
    begun = drive.clock.now_ns
    for ticket in range(3):
        drive.device.submit(read_of(ticket, MIB), urgent=False)
    done: dict[int, tuple[int, int]] = {}
    while len(done) < 3:
        done |= {outcome.ticket: (outcome.begun_ns, outcome.ended_ns) for outcome in drive.wait()}
    took = table_of(emulation("emulate:sata")).seconds(MIB, 2) * 1e9
    assert done[0] == done[1] == (begun, pytest.approx(begun + took, abs=2))
    assert done[2][0] == done[0][1]
    assert done[2][1] == pytest.approx(done[2][0] + table_of(emulation("emulate:sata")).seconds(MIB, 1) * 1e9, abs=3)


def test_busy_time_is_that_of_the_emulated_drive() -> None:
    drive = FakeDrive("emulate:sata,jitter=0")
    took = sum(drive.seconds([MIB, 4 * KIB]))
    drive.clock.now_ns += 1_000_000_000
    drive.device.outcomes()
    assert drive.device.busy_ns / 1e9 == pytest.approx(took, rel=1e-3)
