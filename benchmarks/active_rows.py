"""Rows of active_weights.py: one for each run, one for each variant and point. Pure.

What a run did not say is None: a version of tidemill without a counter, a contender that is not tidemill, a run that
failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

import msgspec

from benchmarks.active_variants import Variant
from benchmarks.contenders import Decoded, Task, Tidemill
from benchmarks.measure import Point, Run
from benchmarks.report import count_equal

EXACT = "exact ring"
Spread: TypeAlias = tuple[float, float, float]  # least, median, most
Json: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class TidemillDecoded(Decoded):
    """With everything that `tidemill run --json` printed."""

    summary: Json | None = None


class ActiveTidemill(Tidemill):
    def read(self, stdout: str, task: Task) -> Decoded:
        return TidemillDecoded(**vars(super().read(stdout, task)), summary=msgspec.json.decode(stdout, type=dict))


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. A row that is equal in all of this is the same measurement."""

    label: str  # of the code that was measured
    batch: str  # conversions that were measured in turns with each other, and with the exact ring
    model: str
    contender: str
    flags: tuple[str, ...]
    ceiling_bytes: int | None
    throttle_bytes_per_s: int | None
    tokens: int
    prompt_tokens: int
    round: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Of single bundles: `hit_ratio` of those that a step computed with lay in DRAM, `preloaded_ratio` had been read
    ahead, the rest, `demanded_ratio`, was waited for; `wasted_ratio` were read ahead in vain, beside them. Requests and
    bytes are of a token, reads ahead included; `wanted_byte_ratio` of what was read is what was asked for, the rest lay
    between; `request_bytes` is how long a request is. `preload_tokens`: during which the brake let preloads pass."""

    hit_ratio: float | None
    preloaded_ratio: float | None
    demanded_ratio: float | None
    wasted_ratio: float | None
    requests: float | None
    read_bytes: float | None
    wanted_bytes: float | None
    wanted_byte_ratio: float | None
    request_bytes: float | None
    computed_weight_ratio: float | None  # of the layers' weights, what decoded tokens computed with
    preload_useful_bytes: float | None  # of the whole run
    preload_wasted_bytes: float | None
    preload_cancelled_bytes: float | None
    preload_tokens: float | None
    cached_share: float | None  # of all bundles' bytes, what the arena may keep


class ActiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds, per decoded token after the first. `equal_tokens` with the exact run of the
    same point: a lossy run differs where its text takes another course."""

    kind: str = "run"
    where: Where
    ceiling_share: float | None
    policy: str | None
    sparsity: float | None
    conversion: str | None
    residency: str | None
    quotas: str | None = None  # what is the default for the residency
    preload: str | None
    sets: tuple[str, ...]
    outcome: str
    detail: str
    decode_s_per_token: float | None
    ttft_s: float | None
    token_ids: tuple[int, ...]
    equal_tokens: int | None
    peak_bytes: int | None
    bytes_per_token: float | None
    requests_per_token: float | None
    stall_s: float | None
    round_trip_s: float | None  # of the stall: with no read under way
    compute_s: float | None
    management_s: float | None
    drive_bytes_per_s: float | None
    bundles: Counts | None
    not_imposed: tuple[str, ...]


class ActiveSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Over the rounds that ended well. `speedup` is the exact ring's s/token over this one's, round by round;
    `speedup_mmap` that of llama.cpp's."""

    kind: str = "summary"
    where: Where  # of the first round
    ceiling_share: float | None
    sets: tuple[str, ...]
    outcomes: tuple[str, ...]
    s_per_token: Spread | None
    speedup: Spread | None
    speedup_mmap: Spread | None
    medians: dict[str, float | None]


MEDIANS = (
    "ttft_s", "equal_tokens", "peak_bytes", "bytes_per_token", "requests_per_token", "stall_s", "round_trip_s",
    "compute_s", "management_s", "drive_bytes_per_s",
)  # fmt: skip


def active_row(
    where: Where, variant: Variant | None, point: Point, whole_bytes: int, run: Run, expected: Sequence[int]
) -> ActiveRow:
    """`expected`: the exact model's tokens, empty while there are none."""
    decoded = run.decoded
    summary = decoded.summary if isinstance(decoded, TidemillDecoded) and decoded.summary else {}
    return ActiveRow(
        where=where,
        ceiling_share=None if point.ceiling_bytes is None else point.ceiling_bytes / whole_bytes,
        policy=variant.policy if variant else None,
        sparsity=variant.sparsity if variant else None,
        conversion=variant.conversion if variant else None,
        residency=variant.residency if variant else None,
        quotas=variant.quotas if variant else None,
        preload=variant.preload if variant else None,
        sets=tuple(sorted(variant.sets)) if variant else (),
        outcome=run.outcome,
        detail=run.detail,
        decode_s_per_token=run.decode_s_per_token,
        ttft_s=run.ttft_s,
        token_ids=decoded.token_ids if decoded else (),
        equal_tokens=count_equal(decoded.token_ids, expected) if decoded and expected else None,
        peak_bytes=run.peak_bytes,
        bytes_per_token=decoded.bytes_read_per_token if decoded else None,
        requests_per_token=number_of(summary, "reads_per_token"),
        stall_s=decoded.stall_s_per_token if decoded else None,
        round_trip_s=number_of(summary, "round_trip_s_per_token"),
        compute_s=decoded.compute_s_per_token if decoded else None,
        management_s=decoded.management_s_per_token if decoded else None,
        drive_bytes_per_s=point.throttle_bytes_per_s or run.drive_bytes_per_s,
        bundles=_counts(summary),
        not_imposed=run.missing,
    )


def _counts(summary: Json) -> Counts | None:
    bundles, active = summary.get("bundles"), summary.get("active")
    if not isinstance(bundles, Mapping):
        return None
    told: Json = active if isinstance(active, Mapping) else {}
    used, *parts = (number_of(bundles, name) for name in ("used", "hits", "preload_hits", "wasted"))
    hits, ahead, wasted = (part / used if used and part is not None else None for part in parts)
    return Counts(
        hit_ratio=hits,
        preloaded_ratio=ahead,
        demanded_ratio=None if hits is None or ahead is None else 1 - hits - ahead,
        wasted_ratio=wasted,
        requests=number_of(told, "requests_per_token"),
        read_bytes=number_of(told, "read_bytes_per_token"),
        wanted_bytes=number_of(told, "useful_bytes_per_token"),
        wanted_byte_ratio=number_of(told, "useful_ratio"),
        request_bytes=number_of(told, "mean_run_bytes"),
        computed_weight_ratio=number_of(told, "computed_weight_share"),
        preload_useful_bytes=number_of(bundles, "preload_useful_bytes"),
        preload_wasted_bytes=number_of(bundles, "preload_wasted_bytes"),
        preload_cancelled_bytes=number_of(bundles, "preload_cancelled_bytes"),
        preload_tokens=number_of(bundles, "preload_tokens"),
        cached_share=number_of(bundles, "cached_share"),
    )


def number_of(of: Json, name: str) -> float | None:
    found = of.get(name)
    return float(found) if isinstance(found, int | float) else None


def summarise(rows: Sequence[ActiveRow], exact: Sequence[ActiveRow], mmap: Sequence[ActiveRow]) -> ActiveSummary:
    """`rows` are the rounds of one variant at one point of one batch, `exact` and `mmap` the others' there."""
    medians = {name: median_of([getattr(row, name) for row in rows]) for name in MEDIANS}
    counts = [row.bundles for row in rows if row.bundles]
    medians |= {name: median_of([getattr(found, name) for found in counts]) for name in Counts.__struct_fields__}
    return ActiveSummary(
        where=rows[0].where,
        ceiling_share=rows[0].ceiling_share,
        sets=rows[0].sets,
        outcomes=tuple(row.outcome for row in rows),
        s_per_token=spread_of([row.decode_s_per_token for row in rows]),
        speedup=_speedup(rows, exact),
        speedup_mmap=_speedup(rows, mmap),
        medians=medians,
    )


def summarise_all(rows: Sequence[ActiveRow], mmap_prefix: str = "llama.cpp") -> list[ActiveSummary]:
    groups: dict[tuple[str, int | None, int | None], dict[str, list[ActiveRow]]] = {}
    for row in rows:
        point = groups.setdefault((row.where.batch, row.where.throttle_bytes_per_s, row.where.ceiling_bytes), {})
        point.setdefault(row.where.contender, []).append(row)
    return [
        summarise(own, point.get(EXACT, []), next((r for n, r in point.items() if n.startswith(mmap_prefix)), []))
        for point in groups.values()
        for own in point.values()
    ]


def _speedup(rows: Sequence[ActiveRow], others: Sequence[ActiveRow]) -> Spread | None:
    theirs = {row.where.round: row.decode_s_per_token for row in others}
    pairs = [(theirs.get(row.where.round), row.decode_s_per_token) for row in rows]
    return spread_of([other / own for other, own in pairs if other and own])


def spread_of(values: Sequence[float | None]) -> Spread | None:
    found = [value for value in values if value is not None]
    return (min(found), median(found), max(found)) if found else None


def median_of(values: Sequence[float | None]) -> float | None:
    spread = spread_of(values)
    return None if spread is None else spread[1]
