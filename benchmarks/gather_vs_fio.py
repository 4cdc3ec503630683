"""How single bundles are gathered, beside fio: the same reads of the same file, direct, in turns.

    python benchmarks/gather_vs_fio.py DIRECTORY [--rounds 5] [--reads 20000]

Writes a scratch file of sealed bundles into DIRECTORY, and removes it. For each size of bundle, share of bundles that
is wanted (`densities`) and alignment, both read the wanted ones of a random choice, one read each, in rising order: we
as the reader does, which verifies each bundle's digest and copies it to its slot, fio (libaio, replaying a log of the
reads) neither. Prints one JSON row per pattern: bundles per second, processor time of a read in µs, and the ratio of
the rates of a round, each as [least, median, most]. Exits with 1 when the median ratio of a pattern is below
`--require`.
"""

import argparse
import json
import mmap
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.runtime.environment import kernel_directory
from tidemill.storage.codecs.bundle_digest import seal_bundles
from tidemill.storage.devices.device import LoadMode
from tidemill.storage.devices.gather import BundleCheck, GatherRequest
from tidemill.storage.devices.gatherer import GATHER_DEPTH
from tidemill.storage.devices.native.code import load_code
from tidemill.storage.devices.thread_pool import ThreadPoolDevice

SIZES = (3520, 5888, 10496, 18560)  # of the widened model's tables (docs/decisions/0012)
DENSITIES = (0.25, 0.5)
ALIGNMENTS = (512, 4096)
FILE_BYTES = 1 << 30
TABLE = 3
VISIT = 1000  # bundles of a request, about what a visit asks for
THREADS = 4
Ints = npt.NDArray[np.int64]


class Measured(NamedTuple):
    bundles_per_s: float
    cpu_us: float  # of a read


def write_bundles(path: Path, size: int, file_bytes: int) -> int:
    """How many."""
    count = file_bytes // size
    with path.open("wb") as file:
        for first in range(0, count, 10_000):
            bundles = np.frombuffer(os.urandom(64), np.uint8)[np.arange(min(10_000, count - first) * size) % 64]
            bundles = bundles.reshape(-1, size)
            seal_bundles(bundles, TABLE, first)
            file.write(bundles.data)
        file.flush()
        os.fsync(file.fileno())
    return count


def choose(count: int, density: float, reads: int, seed: int) -> Ints:
    """The wanted ones of a run of bundles that begins anywhere; below `density` 1 as many as asked for, or all."""
    rng = np.random.default_rng(seed)
    span = min(count, int(reads / density))
    first = int(rng.integers(0, count - span + 1))
    return first + np.flatnonzero(rng.random(span) < density)


def request_of(ticket: int, ids: Ints, size: int, alignment: int) -> GatherRequest:
    offsets = ids * size // alignment * alignment
    slots = ticket % 2 * VISIT + np.arange(len(ids))
    return GatherRequest(
        ticket, np.zeros(len(ids), np.int64), offsets, np.arange(len(ids) + 1), ids * size - offsets, slots, size, 0,
        alignment, BundleCheck(TABLE, ids),
    )  # fmt: skip


def measure_ours(path: Path, ids: Ints, size: int, alignment: int, mode: LoadMode = "direct") -> Measured:
    """Two requests are there at any time, as the next visit's preload is."""
    arena: npt.NDArray[np.uint8] = np.frombuffer(mmap.mmap(-1, 2 * VISIT * size), np.uint8)
    arena[::4096] = 0
    code = load_code(kernel_directory()).gather
    requests = [request_of(i, ids[i * VISIT : (i + 1) * VISIT], size, alignment) for i in range(-(-len(ids) // VISIT))]
    device = ThreadPoolDevice([path], arena, depth=THREADS, load_mode=mode, code=code)
    with closing(device):
        busy, begun = _cpu_seconds(), time.perf_counter()
        for request in requests[:2]:
            device.submit_gather(request, urgent=True)
        done = 0
        while done < len(requests):
            select.select(device.wake_fds, [], [], 1.0)
            for outcome in device.outcomes():
                if outcome.error is not None:
                    raise SystemExit(f"gather_vs_fio: {outcome.error}")
                done += 1
                if done + 1 < len(requests):
                    device.submit_gather(requests[done + 1], urgent=True)
        elapsed = time.perf_counter() - begun
        return Measured(len(ids) / elapsed, (_cpu_seconds() - busy) / len(ids) * 1e6)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure_fio(path: Path, ids: Ints, size: int, alignment: int, depth: int) -> Measured:
    offsets = ids * size // alignment * alignment
    lengths = -(-(ids * size + size) // alignment) * alignment - offsets
    reads = "\n".join(f"{path} read {at} {count}" for at, count in zip(offsets, lengths, strict=True))
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        log.write(f"fio version 2 iolog\n{path} add\n{path} open\n{reads}\n{path} close\n")
        log.flush()
        command = ["fio", "--name=gather", "--ioengine=libaio", "--direct=1", "--readonly", f"--iodepth={depth}"]
        command += ["--thread", f"--read_iolog={log.name}", "--replay_no_stall=1", "--output-format=json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    job = json.loads(done.stdout)["jobs"][0]
    seconds = job["read"]["runtime"] / 1e3
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1e3
    return Measured(job["read"]["total_ios"] / seconds, busy / len(ids) * 1e6)


def measure_pattern(
    path: Path, count: int, size: int, density: float, alignment: int, arguments: argparse.Namespace
) -> dict[str, object]:
    found: dict[str, list[Measured]] = {"ours": [], "fio": []}
    for turn in range(arguments.rounds):
        ids = choose(count, density, arguments.reads, turn)
        found["fio"].append(measure_fio(path, ids, size, alignment, arguments.depth))
        found["ours"].append(measure_ours(path, ids, size, alignment))
    ratios = [ours.bundles_per_s / fio.bundles_per_s for ours, fio in zip(found["ours"], found["fio"], strict=True)]
    row: dict[str, object] = {
        "bundle_bytes": size,
        "density": density,
        "alignment": alignment,
        "depth": arguments.depth,
    }
    row |= {"rounds": arguments.rounds, "ratio": _spread(ratios)}
    for name, values in found.items():
        row[f"{name}_bundles_per_s"] = _spread([value.bundles_per_s for value in values])
        row[f"{name}_cpu_us"] = _spread([value.cpu_us for value in values])
    return row


def _spread(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in (min(values), median(values), max(values))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    parser.add_argument("--alignments", type=int, nargs="+", default=ALIGNMENTS)
    parser.add_argument("--depth", type=int, default=GATHER_DEPTH, help="fio's; ours is what it is")
    parser.add_argument("--file-bytes", type=int, default=FILE_BYTES)
    parser.add_argument("--require", type=float, default=0.0)
    arguments = parser.parse_args()
    if shutil.which("fio") is None:
        raise SystemExit("gather_vs_fio: fio is not installed; get it with your system's package manager")
    worst = float("inf")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        path = Path(directory) / "bundles"
        for size in arguments.sizes:
            count = write_bundles(path, size, arguments.file_bytes)
            for density in arguments.densities:
                for alignment in arguments.alignments:
                    row = measure_pattern(path, count, size, density, alignment, arguments)
                    print(json.dumps(row), flush=True)
                    worst = min(worst, row["ratio"][1])  # type: ignore[index]
    return 1 if worst < arguments.require else 0


if __name__ == "__main__":
    sys.exit(main())
