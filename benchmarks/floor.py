"""The least time that a decoded token can take at a ceiling: what the drive and the memory have to deliver for it."""

import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.runtime.tuning.flash import FlashMeter, FlashPlan

BUFFER_BYTES = 128 << 20  # per thread: far beyond caches
REPEATS = 8
READ_BYTES = 2 << 20  # per request: what a streamed extent is read in
READ_DEPTH = 4
READ_SECONDS = 1.5


def floor_s_per_token(
    weight_bytes: int, ceiling_bytes: int | None, flash_bytes_per_s: float | None, dram_bytes_per_s: float
) -> float:
    """max(streamed bytes / flash rate, weight bytes / DRAM rate), where every byte of the ceiling holds weights: no
    program can stand on it, as its own memory counts too. None for the flash rate: nothing had to be read."""
    streamed = 0 if ceiling_bytes is None else max(0, weight_bytes - ceiling_bytes)
    flash_s = streamed / flash_bytes_per_s if streamed and flash_bytes_per_s else 0.0
    return max(flash_s, weight_bytes / dram_bytes_per_s)


def measure_dram_bytes_per_s(threads: int) -> float:
    """The best of some passes in which each thread reads a buffer of its own once. What else runs makes it less."""
    buffers = [np.ones(BUFFER_BYTES // 4, np.float32) for _ in range(threads)]

    def read(buffer: npt.NDArray[np.float32]) -> None:
        buffer.max()

    best = float("inf")
    for _ in range(REPEATS):
        readers = [threading.Thread(target=read, args=(buffer,)) for buffer in buffers]
        begun = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = min(best, time.perf_counter() - begun)
    return threads * BUFFER_BYTES / best


def measure_flash_bytes_per_s(model: Path) -> float:
    """Of a model's shards, read in sequence and directly. Raises DeviceError, FlashTooSmallError."""
    shards = sorted((model / "shards").glob("*.arrow"))
    plan = FlashPlan(request_sizes=(READ_BYTES,), depths=(READ_DEPTH,), seconds=READ_SECONDS)
    rates = FlashMeter(shards, source=model.name).measure(plan, lambda _: None)
    return rates.points[0].bytes_per_s
