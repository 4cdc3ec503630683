"""Runs one contender once under its limits. A contender that fails or is killed is a result, not an error."""

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Literal

from benchmarks.contenders import Contender, Decoded, Task
from benchmarks.limits import LimitedGroup, Limits
from benchmarks.page_cache import drop_page_cache

Outcome = Literal["ok", "out of memory", "failed", "timed out"]
DETAIL_CHARACTERS = 400


@dataclass(frozen=True)
class Point:
    """Where contenders are compared: the ceiling of the whole process tree and what the drive may deliver."""

    ceiling_bytes: int | None
    throttle_bytes_per_s: int | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """Times in seconds, over the tokens after the first. `ttft_s` runs from the call, with the model open, to the first
    token; `process_s` from start to end of the process. `peak_bytes` is the control group's: page cache counts."""

    outcome: Outcome
    detail: str
    process_s: float
    peak_bytes: int | None
    limit_hits: int | None
    missing: tuple[str, ...]
    decoded: Decoded | None = None
    drive_bytes_per_s: float | None = None  # what it gave right before and after; None: not measured

    @property
    def decode_s_per_token(self) -> float | None:
        return median(self.decoded.token_s[1:]) if self.decoded and len(self.decoded.token_s) > 1 else None

    @property
    def decode_mean_s_per_token(self) -> float | None:
        return fmean(self.decoded.token_s[1:]) if self.decoded and len(self.decoded.token_s) > 1 else None

    @property
    def ttft_s(self) -> float | None:
        return self.decoded.token_s[0] if self.decoded and self.decoded.token_s else None


def run_once(contender: Contender, task: Task, point: Point, timeout_s: float) -> Run:
    """With an empty page cache, in control groups of its own, which are gone afterwards."""
    limits = Limits(point.ceiling_bytes, point.throttle_bytes_per_s, contender.files)
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-", dir=task.scratch) as own, LimitedGroup(limits) as group:
        task = replace(task, scratch=Path(own))
        cold = drop_page_cache([contender.files])
        missing = (*group.missing, *([cold] if cold else []))
        command, environment = group.wrap(contender.command(task))
        begun = time.perf_counter()
        status, stdout, stderr = _run(command, environment, timeout_s, Path(own))
        process_s = time.perf_counter() - begun
        usage = group.usage()
        run = Run(
            outcome="ok",
            detail="",
            process_s=process_s,
            peak_bytes=usage.peak_bytes,
            limit_hits=usage.limit_hits,
            missing=missing,
        )
        if status == 0:
            return _read(contender, stdout, task, run)
        detail = stderr.strip()[-DETAIL_CHARACTERS:] or f"exit status {status}"
        outcome: Outcome = "timed out" if status is None else "out of memory" if usage.oom_kills else "failed"
        return replace(run, outcome=outcome, detail=detail)


def _read(contender: Contender, stdout: str, task: Task, run: Run) -> Run:
    try:
        return replace(run, decoded=contender.read(stdout, task))
    except (ValueError, KeyError, IndexError, OSError) as error:
        return replace(run, outcome="failed", detail=f"what it printed can't be read: {error!r}: {stdout[-200:]!r}")


def _run(
    command: list[str], environment: dict[str, str], timeout_s: float, directory: Path
) -> tuple[int | None, str, str]:
    """Exit status (None: it took too long), stdout, stderr. In a session of its own, which a timeout ends whole."""
    with (directory / "stdout").open("w+") as stdout, (directory / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, env={**os.environ, **environment}, start_new_session=True
        )
        status: int | None
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        stdout.seek(0)
        stderr.seek(0)
        return status, stdout.read(), stderr.read()
