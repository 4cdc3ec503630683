"""fio as the peer of a read job: the same reads of the same files. Reads only, whatever it is told."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from tidemill.runtime.stress.fio_numbers import join_files
from tidemill.runtime.stress.reader.job import ReaderJob
from tidemill.runtime.stress.report import MadeRead

GRACE_S = 60.0  # beyond what it was told to take
GATHER_DEPTH = 64  # as a gather has (storage/devices/gatherer.py)


class FioError(ValueError):
    """fio is not there, or refuses."""


class FioRead(NamedTuple):
    bw_bytes: float
    clat_p50_ns: float
    clat_p99_ns: float


def require_fio() -> str:
    """Its version. Raises FioError."""
    if shutil.which("fio") is None:
        raise FioError("--vs-fio needs fio, which is not installed; get it with your system's package manager")
    done = subprocess.run(["fio", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "fio"


def run_fio(job: ReaderJob, numjobs: int) -> FioRead:
    """The same pattern. Raises FioError."""
    assert job.block_bytes is not None
    command = [
        *_common(job),
        f"--filename={join_files(job.files)}",
        f"--rw={job.rw}",
        f"--bs={job.block_bytes}",
        f"--iodepth={job.iodepth}",
        f"--numjobs={numjobs}",
        "--group_reporting",
    ]
    command += [] if job.size is None else [f"--size={job.size}"]
    command += [] if job.runtime_s is None else [f"--runtime={job.runtime_s:g}s"]
    command += ["--time_based"] if job.time_based else []
    command += [] if job.rate is None else [f"--rate={job.rate}"]
    return _run(command, None if job.runtime_s is None else job.runtime_s + GRACE_S)


def replay_fio(job: ReaderJob, paths: Sequence[str], made: Sequence[MadeRead]) -> FioRead:
    """The very reads that a job made, in their order, as fast as they go. Raises FioError."""
    depth = GATHER_DEPTH if job.is_gather else job.iodepth
    names = [f"{path} add\n{path} open\n" for path in paths]
    reads = [f"{paths[read.shard]} read {read.offset} {-(-read.size // 4096) * 4096}\n" for read in made]
    with tempfile.NamedTemporaryFile("w", prefix="tidemill-fio-", suffix=".log") as log:
        log.write("fio version 2 iolog\n" + "".join(names) + "".join(reads))
        log.writelines(f"{path} close\n" for path in paths)
        log.flush()
        command = [*_common(job), "--thread", f"--read_iolog={log.name}", "--replay_no_stall=1", f"--iodepth={depth}"]
        return _run(command, None)


def _common(job: ReaderJob) -> list[str]:
    options = ["fio", f"--name={job.name}", "--readonly", "--ioengine=libaio", f"--direct={int(job.direct)}"]
    return [*options, "--output-format=json"]


def _run(command: Sequence[str], timeout_s: float | None) -> FioRead:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        read = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read"]
        percentiles = read["clat_ns"].get("percentile", {})
    except subprocess.TimeoutExpired:
        raise FioError(f"fio did not end: {' '.join(command)}") from None
    except (ValueError, KeyError, IndexError):
        raise FioError(f"fio says nothing of its reads: {done.stderr.strip() or done.stdout.strip()}") from None
    if done.returncode != 0:
        raise FioError(f"fio failed (exit status {done.returncode}): {done.stderr.strip()}")
    return FioRead(read["bw_bytes"], percentiles.get("50.000000", 0), percentiles.get("99.000000", 0))
