"""What a pipeline job is described by, and what it finds out."""

import msgspec

from tidemill.actors.arena.residency.choose_policy import RESIDENCY_KINDS, ResidencyKind
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.options import IO_DEPTH_MAX, LauncherName
from tidemill.runtime.stress.latency_stats import LatencyStats
from tidemill.runtime.stress.pipeline.consumer import ConsumerSpec
from tidemill.storage.devices.device import LoadMode
from tidemill.storage.devices.emulated.spec import Emulation

PRELOADS: tuple[PreloadKind, ...] = ("none", "previous-token", "popularity")  # a consumer has no activations


class PipelineJob(msgspec.Struct, frozen=True, kw_only=True, tag=5):
    """`tokens`, `runtime_s`: whichever ends first; the first token is warming up, and not counted."""

    name: str
    model: str
    arena_bytes: int
    consumer: ConsumerSpec
    launcher: LauncherName = "local"
    iodepth: int = 4
    load_mode: LoadMode
    tokens: int | None = None
    runtime_s: float | None = 5.0
    residency: ResidencyKind = "lfu"
    preload: PreloadKind = "none"
    device: Emulation | None = None  # None: the drive as it is
    verify_reads: bool = True


class PipelineFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Per token, on average. `stall_share` of the token's time; `management_ns` is what neither computing nor stalling
    took. `busy_share`: of the time, reads were under way. `alone_bytes_per_s`: the reader's rate on the same
    reads with nobody beside it; `bound_ns`: max(compute, bytes / that rate), or where it was not measured the time that
    reads were under way."""

    tokens: int
    layout: str
    arena_bytes: int
    locked_bytes: int
    token_ns: LatencyStats
    compute_ns: float
    stall_ns: float
    management_ns: float
    stall_share: float
    flash_bytes_per_token: float
    flash_bytes_per_s: float
    busy_share: float
    busy_ns: float
    load_mode: str
    hit_rate: float = 0.0  # of single bundles
    alone_bytes_per_s: float = 0.0
    bound_ns: float = 0.0
    failed: str = ""

    def without_bins(self) -> "PipelineFigures":
        return msgspec.structs.replace(self, token_ns=self.token_ns.without_bins())

    def with_alone(self, bytes_per_s: float) -> "PipelineFigures":
        """`bytes_per_s` 0: it was not measured."""
        reading_ns = self.flash_bytes_per_token / bytes_per_s * 1e9 if bytes_per_s else self.busy_ns
        return msgspec.structs.replace(self, alone_bytes_per_s=bytes_per_s, bound_ns=max(self.compute_ns, reading_ns))


def check_job(job: PipelineJob) -> PipelineJob:
    """Raises ValueError that names the option and what is accepted."""
    checks = [
        ("iodepth", job.iodepth, 1 <= job.iodepth <= IO_DEPTH_MAX, f"1 to {IO_DEPTH_MAX}"),
        ("launcher", job.launcher, job.launcher in ("local", "in-process"), "local, in-process"),
        ("residency", job.residency, job.residency in RESIDENCY_KINDS and job.residency != "hot-set",
         "lfu, window, lru, none"),
        ("preload", job.preload, job.preload in PRELOADS, ", ".join(PRELOADS)),
        ("active", job.consumer.active, 0 < job.consumer.active <= 1, "more than 0, at most 1"),
        ("tokens", job.tokens, job.tokens is None or job.tokens > 0, "more than 0"),
    ]  # fmt: skip
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"--{name} is {value}, accepted: {accepted}")
    return job
