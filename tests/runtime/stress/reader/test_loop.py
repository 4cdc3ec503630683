"""The real reader actor over a flash out of memory, on a clock that every look moves on."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.flash import FakeFlash, Faults
from tests.fakes.stress import TICK_NS, FakeSurroundings, ticking_clock
from tidemill.actors.counters import Counter, new_counters
from tidemill.actors.reader.actor import ReaderActor
from tidemill.actors.reader.config import ReaderConfig
from tidemill.runtime.stress.reader.job import ReaderJob
from tidemill.runtime.stress.reader.loop import Limits, Places, ReaderLoop
from tidemill.runtime.stress.reader.observed_device import ObservedDevice
from tidemill.runtime.stress.reader.patterns import BlockPattern
from tidemill.runtime.stress.reader.targets import open_target

BLOCK = 4096
BLOCKS = 32


class Bench:
    """32 blocks of a file, 4 orders outstanding at most, into 8 places."""

    def __init__(self, directory: Path, *, limits: Limits, faults: Faults | None = None, seed: int = 1) -> None:
        path = directory / "file"
        path.write_bytes(os.urandom(BLOCK * BLOCKS))
        job = ReaderJob(name="a", files=(str(path),), load_mode="direct", verify=True)
        manifest = open_target(job, lambda *_: None).manifest
        self.arena = np.zeros(8 * BLOCK, np.uint8)
        self.flash = FakeFlash([path.read_bytes()], self.arena, seed=seed, faults=faults)
        self.counters = new_counters()
        self.device = ObservedDevice(self.flash, reads_kept=5)
        config = ReaderConfig(tickets=4, retries=2)
        self.loop = ReaderLoop(
            ReaderActor(config, manifest, self.device, self.counters),
            self.device,
            BlockPattern(manifest.extents, BLOCK, "randread", seed),
            limits=limits,
            counters=self.counters,
            clock_ns=ticking_clock(),
        )

    def run(self, surroundings: FakeSurroundings | None = None) -> ReaderLoop:
        self.loop.run(Places(4, 8, BLOCK), surroundings or FakeSurroundings())
        return self.loop


ONE_PASS = Limits(runtime_s=None, passes=True, rate=None)


def test_a_pass_reads_every_block_once_and_counts_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limits=ONE_PASS)
    loop = bench.run()
    assert sorted(request.offset for request in bench.flash.submitted) == [i * BLOCK for i in range(BLOCKS)]
    assert (loop.orders, loop.lat.count, loop.useful_bytes) == (BLOCKS, BLOCKS, BLOCKS * BLOCK)
    assert bench.counters[Counter.FLASH_BYTES] == BLOCKS * BLOCK
    assert max(loop.depths) == 4
    assert sum(loop.depths.values()) == BLOCKS
    assert loop.elapsed_ns > 0
    assert [made.offset for made in bench.device.made] == [r.offset for r in bench.flash.submitted[:5]]


def test_places_take_turns(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limits=ONE_PASS)
    bench.run()
    assert {request.destination // BLOCK for request in bench.flash.submitted} == set(range(8))


def test_time_based_reads_begin_again_until_the_time_is_over(tmp_path: Path) -> None:
    loop = Bench(tmp_path, limits=Limits(runtime_s=0.4, passes=False, rate=None)).run()
    assert loop.orders > BLOCKS
    assert 400 * TICK_NS <= loop.elapsed_ns < 450 * TICK_NS


def test_a_pass_ends_early_when_the_time_is_over(tmp_path: Path) -> None:
    assert 0 < Bench(tmp_path, limits=Limits(runtime_s=0.02, passes=True, rate=None)).run().orders < BLOCKS


def test_being_stopped_leaves_no_ticket_without_an_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limits=Limits(runtime_s=None, passes=False, rate=None))
    loop = bench.run(FakeSurroundings(stop_after=50))
    assert loop.orders == len(bench.flash.submitted) > 0


def test_a_drive_that_hangs_is_given_up_once_told_to_stop(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limits=ONE_PASS, faults=Faults(delay=1.0))
    loop = bench.run(FakeSurroundings(stop_after=50))
    assert (loop.orders, len(bench.flash.submitted)) == (0, 4)
    assert loop.elapsed_ns > 5e9


def test_a_rate_is_kept(tmp_path: Path) -> None:
    rate = 100 * BLOCK  # 32 blocks in 0.32 s, of looks at the clock of 1 ms
    loop = Bench(tmp_path, limits=Limits(runtime_s=None, passes=True, rate=rate)).run()
    assert 0.28e9 < loop.elapsed_ns < 0.36e9


def test_progress_says_rate_latency_and_how_long_it_will_take(tmp_path: Path) -> None:
    surroundings = FakeSurroundings()
    Bench(tmp_path, limits=Limits(runtime_s=2.0, passes=False, rate=None)).run(surroundings)
    assert 6 <= len(surroundings.told) <= 8  # every 250 ms
    last = surroundings.told[-1]
    assert last.expected_s == 2.0
    assert last.bytes_per_s > 0
    assert last.p99_ns >= last.p50_ns > 0


def test_what_fails_for_good_is_counted_and_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limits=ONE_PASS, faults=Faults(error=0.6), seed=3)
    loop = bench.run()
    assert loop.orders == BLOCKS
    assert 0 < len(loop.failures) < BLOCKS
    assert "injected I/O error" in loop.failures[0]
    assert bench.counters[Counter.FLASH_RETRIES] > 0
    assert bench.counters[Counter.FLASH_BYTES] == loop.useful_bytes == (BLOCKS - len(loop.failures)) * BLOCK


def test_a_flipped_bit_is_seen_where_reads_are_verified(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limits=ONE_PASS, faults=Faults(corrupt=0.9), seed=3)
    assert any("checksum" in failure for failure in bench.run().failures)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_answers_is_counted(tmp_path: Path, seed: int) -> None:
    loop = Bench(tmp_path, limits=ONE_PASS, faults=Faults(delay=0.7, short=0.1), seed=seed).run()
    assert loop.orders == BLOCKS
