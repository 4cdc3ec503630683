"""The flash device of the reader beside fio: the same file, block size, depth and direct I/O, in turns.

    python benchmarks/reader_vs_fio.py FILE [--rounds 5] [--seconds 2]

FILE is read only, and should be larger than what the drive caches: a shard of a model, say. Ours does what it does when
decoding: it verifies a checksum of every block, and it reads into shared memory, straight and staged. Prints one JSON
row per pattern: rates and ratios to fio of the same round, each as [least, median, most]. Exits with 1 when the median
ratio of the mode that decoding would choose here is below `--require` at a depth of 4 and more.
"""

import argparse
import json
import mmap
import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.runtime.options import choose_load_mode
from tidemill.storage.checksums import digest_int
from tidemill.storage.devices.device import LoadMode, ReadRequest
from tidemill.storage.devices.thread_pool import ThreadPoolDevice

KIB = 1024
BLOCKS = (64 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB, 4096 * KIB)
DEPTHS = (1, 4, 8)
BYTES_MAX = 1 << 30  # of the file; checksums of its blocks are computed beforehand
MODES: tuple[LoadMode, ...] = ("direct", "staged")
QUEUED = 4  # requests per place of depth, as the arena keeps them


def block_digests(path: Path, block: int, size: int) -> list[int]:
    with path.open("rb") as file:
        return [digest_int(memoryview(file.read(block))) for _ in range(size // block)]


def measure_ours(mode: LoadMode, path: Path, block: int, depth: int, digests: list[int], seconds: float) -> float:
    """Bytes per second of sequential reads into a ring of slots in shared memory."""
    slots = QUEUED * depth
    arena: npt.NDArray[np.uint8] = np.frombuffer(mmap.mmap(-1, slots * block), np.uint8)
    arena[::4096] = 0  # every page is there, as in an arena that has gone round once
    device = ThreadPoolDevice([path], arena, depth=depth, load_mode=mode)
    submitted = done = 0

    def submit(slot: int) -> None:
        nonlocal submitted
        place = submitted % len(digests)
        device.submit(
            ReadRequest(slot, 0, place * block, block, block, "raw", (digests[place],), 0, slot * block), urgent=False
        )
        submitted += 1

    begun = time.perf_counter()
    with closing(device):
        for slot in range(slots):
            submit(slot)
        while time.perf_counter() < begun + seconds:
            for ticket in _ended(device):
                done += 1
                submit(ticket)
        elapsed = time.perf_counter() - begun
    return done * block / elapsed


def _ended(device: ThreadPoolDevice) -> list[int]:
    """Wait for reads to end; their tickets."""
    select.select(device.wake_fds, [], [], 1.0)
    outcomes = device.outcomes()
    for outcome in outcomes:
        if outcome.error is not None:
            raise SystemExit(f"reader_vs_fio: {outcome.error}")
    return [outcome.ticket for outcome in outcomes]


def measure_fio(path: Path, block: int, depth: int, size: int, seconds: float) -> float:
    command = ["fio", "--name=read", f"--filename={path}", "--readonly", "--rw=read", "--ioengine=libaio", "--direct=1"]
    command += [f"--bs={block}", f"--iodepth={depth}", f"--size={size}", f"--runtime={seconds}", "--time_based"]
    done = subprocess.run([*command, "--output-format=json"], capture_output=True, text=True, check=True)
    rate: float = json.loads(done.stdout)["jobs"][0]["read"]["bw_bytes"]
    return rate


def measure_pattern(path: Path, block: int, depth: int, rounds: int, seconds: float) -> dict[str, Any]:
    size = min(path.stat().st_size, BYTES_MAX) // block * block
    digests = block_digests(path, block, size)
    rates: dict[str, list[float]] = {"direct": [], "staged": [], "fio": []}
    for _ in range(rounds):
        os.sync()
        rates["fio"].append(measure_fio(path, block, depth, size, seconds))
        for mode in MODES:
            rates[mode].append(measure_ours(mode, path, block, depth, digests, seconds))
    row: dict[str, Any] = {"block_bytes": block, "depth": depth, "rounds": rounds}
    for name, values in rates.items():
        row[f"{name}_bytes_per_s"] = [min(values), median(values), max(values)]
    for mode in MODES:
        ratios = [mine / other for mine, other in zip(rates[mode], rates["fio"], strict=True)]
        row[f"{mode}_ratio"] = [min(ratios), median(ratios), max(ratios)]
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--blocks", type=int, nargs="+", default=BLOCKS)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--require", type=float, default=0.0)
    arguments = parser.parse_args()
    if shutil.which("fio") is None:
        raise SystemExit("reader_vs_fio: fio is not installed; get it with your system's package manager")
    worst = float("inf")
    for block in arguments.blocks:
        for depth in arguments.depths:
            row = measure_pattern(arguments.file, block, depth, arguments.rounds, arguments.seconds)
            print(json.dumps(row), flush=True)
            if depth >= 4:
                worst = min(worst, row[f"{choose_load_mode('auto')}_ratio"][1])
    return 1 if worst < arguments.require else 0


if __name__ == "__main__":
    sys.exit(main())
