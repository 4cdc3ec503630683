"""From the flags of `tidemill stress reader` to its plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tidemill.runtime.options import choose_load_mode, default_threads
from tidemill.runtime.stress.fio_numbers import parse_seconds, parse_size, parse_sweep, split_files
from tidemill.runtime.stress.reader.job import BLOCK_BYTES, ReaderJob, ReadWrite, check_job
from tidemill.runtime.stress.reader.session import ReaderPlan
from tidemill.runtime.stress.reader.targets import find_files, is_model
from tidemill.storage.devices.device import LoadMode
from tidemill.storage.devices.emulated.spec import Emulation, parse_device

SCRATCH_BYTES = 512 << 20
BUNDLE_BYTES = 4096  # of a scratch file of single bundles


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFlags:
    """As given."""

    filename: tuple[str, ...]
    directory: Path
    rw: str
    bs: str | None
    size: str | None
    iodepth: int
    numjobs: int
    direct: bool
    load_mode: str
    runtime: str | None
    time_based: bool
    rate: str | None
    queue: int
    scatter: int
    trace: Path | None
    device: str
    verify: bool | None
    compute_load: int
    sweep: tuple[str, ...]
    vs_fio: bool
    rounds: int | None
    group_reporting: bool
    name: str
    randseed: int


def plan_reader(flags: ReaderFlags) -> ReaderPlan:
    """Raises ValueError, StorageError."""
    names = [name for text in flags.filename for name in split_files(text)]
    sweeps = [parse_sweep(text) for text in flags.sweep]
    gathers = flags.scatter > 0 or flags.trace is not None or "scatter" in dict(sweeps)
    by_manifest = is_model(names) and (flags.bs is None or gathers)
    block_bytes = _block_bytes(flags, by_manifest=by_manifest, gathers=gathers)
    job = ReaderJob(
        name=flags.name,
        files=tuple(names) if by_manifest else find_files(names, block_bytes or 1),
        rw=cast(ReadWrite, flags.rw),
        block_bytes=block_bytes,
        size=None if flags.size is None else parse_size(flags.size),
        iodepth=flags.iodepth,
        direct=flags.direct,
        load_mode=_load_mode(flags),
        runtime_s=None if flags.runtime is None else parse_seconds(flags.runtime),
        time_based=flags.time_based,
        rate=None if flags.rate is None else parse_size(flags.rate),
        queue=flags.queue,
        scatter=flags.scatter,
        trace=None if flags.trace is None else str(flags.trace),
        sealed=gathers and not names,
        device=parse_reading_device(flags.device),
        verify=flags.verify,
        seed=flags.randseed,
    )
    check_job(job, flags.numjobs)
    if flags.compute_load > default_threads():
        raise ValueError(f"--compute-load {flags.compute_load}: this machine gives {default_threads()} cores")
    return ReaderPlan(
        job=job,
        numjobs=flags.numjobs,
        sweeps=sweeps,
        load_threads=flags.compute_load,
        vs_fio=flags.vs_fio,
        rounds=flags.rounds or (3 if flags.vs_fio else 1),
        grouped=flags.group_reporting,
        scratch=0 if names else job.size or SCRATCH_BYTES,
        directory=flags.directory,
    )


def parse_reading_device(text: str) -> Emulation | None:
    """Raises ValueError."""
    device = parse_device(text)
    if device is not None and any(rule.kind == "enospc" for rule in device.faults):
        raise ValueError(f"device {text!r}: enospc is of writers, and this only reads")
    return device


def _block_bytes(flags: ReaderFlags, *, by_manifest: bool, gathers: bool) -> int | None:
    if by_manifest:
        if flags.bs is not None:
            raise ValueError("--bs is the size of a scratch file's bundles; those of a model have theirs: leave it out")
        return None
    if flags.bs is not None:
        return parse_size(flags.bs)
    return BUNDLE_BYTES if gathers else BLOCK_BYTES


def _load_mode(flags: ReaderFlags) -> LoadMode:
    """--direct=1 is what decoding chooses here, unless a mode is named."""
    if flags.direct:
        if flags.load_mode == "buffered":
            raise ValueError("--load-mode buffered goes through the page cache: give --direct=0 with it")
        return choose_load_mode(cast(LoadMode, flags.load_mode))
    if flags.load_mode not in ("auto", "buffered"):
        raise ValueError(f"--direct=0 goes through the page cache, and --load-mode {flags.load_mode} past it")
    return "buffered"
