"""What an arena job is described by, and what it finds out."""

from typing import Literal, get_args

import msgspec

from tidemill.actors.arena.residency.choose_policy import RESIDENCY_KINDS, ResidencyChoice, ResidencyKind
from tidemill.runtime.stress.fio_numbers import parse_size
from tidemill.runtime.stress.latency_stats import LatencyStats

PolicyName = Literal["lfu", "window", "lru", "hot-set", "none", "adaptive"]  # adaptive: lfu with quotas that move
POLICY_NAMES: tuple[PolicyName, ...] = get_args(PolicyName)
assert set(RESIDENCY_KINDS) < set(POLICY_NAMES), "every policy of the actor can be stressed"


class ArenaJob(msgspec.Struct, frozen=True, kw_only=True, tag=4):
    """Every policy at every size, one after the other. `sizes`: bytes of the arena, or a share of all bundles with a %.
    `mix`: what is visited (mixes.py), unless a `trace` says so; `model`: whose tables the trace's selections are of.
    """

    name: str
    policies: tuple[PolicyName, ...]
    sizes: tuple[str, ...]
    mix: str
    trace: str | None = None
    calibration: str | None = None  # a trace of other text, for hot sets
    model: str | None = None
    layers: int = 32
    channels: int = 4096
    active: float = 0.3
    bundle_bytes: int = 4096
    tokens: int = 64
    runtime_s: float | None = None  # of each policy and size: token after token goes on from the first again
    window: int = 5
    seed: int = 0


class ArenaFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Bundles are counted per use in a visit. `late_hit_rate`: of the second half. `demand_ratio`: what the caches hold
    over what one token uses on average; below 1 is the cliff. `management_ns`: of the actor's processor time, per
    bundle; `visit_ns`: its time for a visit, begun, placed and ended."""

    policy: str
    arena_bytes: int
    cache_share: float
    demand_ratio: float
    below_demand: str  # what the arena would say of that; empty above
    tokens: int
    visits: int
    bundles: int
    hits: int
    hit_rate: float
    late_hit_rate: float
    evicted_per_token: float
    admitted_per_token: float
    loaded_per_token: float
    quota_moved: int
    management_ns: float
    bundles_per_s: float
    visit_ns: LatencyStats

    def without_bins(self) -> "ArenaFigures":
        return msgspec.structs.replace(self, visit_ns=self.visit_ns.without_bins())


def choice_of(policy: PolicyName, window: int) -> ResidencyChoice:
    if policy == "adaptive":
        return ResidencyChoice("lfu", quotas="adaptive")
    kind: ResidencyKind = policy
    return ResidencyChoice(kind, window=window)


def parse_arena_size(text: str, whole_bytes: int) -> int:
    """Bytes of an arena: of a size, or of a percentage of all bundles. Raises ValueError."""
    if not text.endswith("%"):
        return parse_size(text)
    try:
        share = float(text[:-1]) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"{text!r} is no share of the bundles; write 25%, more than 0 and at most 100, or a size: 64m")
    return int(share * whole_bytes)


def check_job(job: ArenaJob) -> ArenaJob:
    """Raises ValueError that names the option and what is accepted."""
    unknown = set(job.policies) - set(POLICY_NAMES)
    checks = [
        ("policies", ", ".join(sorted(unknown)), not unknown and job.policies, ", ".join(POLICY_NAMES)),
        ("layers", job.layers, 1 <= job.layers <= 1024, "1 to 1024"),
        ("channels", job.channels, 16 <= job.channels <= 1 << 20, f"16 to {1 << 20}"),
        ("active", job.active, 0 < job.active <= 1, "more than 0, at most 1"),
        ("bs", job.bundle_bytes, job.bundle_bytes >= 64 and job.bundle_bytes % 64 == 0, "a multiple of 64 bytes"),
        ("tokens", job.tokens, 2 <= job.tokens <= 1 << 20, f"2 to {1 << 20}"),
        ("window", job.window, 1 <= job.window <= 1024, "1 to 1024"),
    ]
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"--{name} is {value or 'nothing'}, accepted: {accepted}")
    if "hot-set" in job.policies and job.trace is not None and job.calibration is None:
        raise ValueError("hot-set needs --calibration TRACE, of other text than --trace; or leave it out of --policies")
    return job
