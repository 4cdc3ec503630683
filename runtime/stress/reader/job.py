"""What a read job is described by. Validated once, before a process begins."""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from tidemill.runtime.cell_plan import TICKETS_PER_DEPTH
from tidemill.runtime.options import IO_DEPTH_MAX
from tidemill.runtime.stress.fio_numbers import format_size, join_files
from tidemill.storage.devices.device import LoadMode
from tidemill.storage.devices.emulated.spec import Emulation
from tidemill.storage.manifest import ALIGNMENT_BYTES

ReadWrite = Literal["read", "randread"]
READ_WRITES: tuple[ReadWrite, ...] = get_args(ReadWrite)
BUNDLE_BYTES = 64  # what the size of a bundle is a multiple of
BLOCK_BYTES = 4096  # fio's
JOBS_MAX = 64


class ReaderJob(msgspec.Struct, frozen=True, kw_only=True, tag=1):
    """`block_bytes` None: a model's own extents. `queue`: orders that wait behind each read that may be under way.
    `scatter`: single bundles that an order brings to places of their own; 0: an order is one read. `sealed`: the one
    file holds nothing but bundles of `block_bytes`, with digests. `verify` None: where the files say what to expect.
    """

    name: str
    files: tuple[str, ...]
    rw: ReadWrite = "read"
    block_bytes: int | None = BLOCK_BYTES
    size: int | None = None
    iodepth: int = 1
    direct: bool = True
    load_mode: LoadMode
    runtime_s: float | None = None
    time_based: bool = False
    rate: int | None = None
    queue: int = TICKETS_PER_DEPTH - 1
    scatter: int = 0
    trace: str | None = None
    sealed: bool = False
    verify: bool | None = None
    seed: int = 0
    device: Emulation | None = None  # None: the drive as it is
    reads_kept: int = 0  # of those made first, how many the report names for a peer

    @property
    def is_gather(self) -> bool:
        return self.scatter > 0 or self.trace is not None

    @property
    def fio_options(self) -> Mapping[str, str]:
        """As fio would be told, and what it has no option for."""
        options = {
            "name": self.name,
            "filename": join_files(self.files),
            "rw": self.rw,
            "bs": "extent" if self.block_bytes is None else format_size(self.block_bytes),
            "iodepth": str(self.iodepth),
            "direct": str(int(self.direct)),
            "queue": str(self.queue),
        }
        optional = {
            "size": self.size and format_size(self.size),
            "runtime": self.runtime_s and f"{self.runtime_s:g}",
            "time_based": self.time_based and "1",
            "rate": self.rate and format_size(self.rate),
            "scatter": self.scatter and str(self.scatter),
            "trace": self.trace,
            "verify": None if self.verify is None else str(int(self.verify)),
            "device": self.device and self.device.text,
        }
        return options | {name: value for name, value in optional.items() if value}


def check_job(job: ReaderJob, numjobs: int) -> ReaderJob:
    """The job. Raises ValueError that names the option and what is accepted."""
    bs = job.block_bytes
    unit = BUNDLE_BYTES if job.is_gather else ALIGNMENT_BYTES
    checks = [
        ("rw", job.rw, job.rw in READ_WRITES, f"{' or '.join(READ_WRITES)}: this never writes"),
        ("iodepth", job.iodepth, 1 <= job.iodepth <= IO_DEPTH_MAX, f"1 to {IO_DEPTH_MAX}"),
        ("numjobs", numjobs, 1 <= numjobs <= JOBS_MAX, f"1 to {JOBS_MAX}"),
        ("queue", job.queue, 0 <= job.queue <= 64, "0 to 64"),
        ("bs", bs, bs is None or (bs > 0 and bs % unit == 0), f"a multiple of {unit} bytes"),
        ("size", job.size, job.size is None or bs is None or job.size >= bs, "at least one block of --bs"),
        ("scatter", job.scatter, 0 <= job.scatter <= 65536, "0 to 65536"),
    ]
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"--{name} is {value}, accepted: {accepted}")
    if job.time_based and job.runtime_s is None:
        raise ValueError("--time_based goes on until --runtime is over: say how long that is")
    if job.scatter and job.trace is not None:
        raise ValueError("--scatter chooses bundles, and so does --trace: give one of them")
    if job.is_gather and job.size is not None and not job.sealed:
        raise ValueError("--size bounds a region of files; orders of single bundles range over all of a model")
    return job
