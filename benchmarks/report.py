"""Rows of the comparison, a summary of each point's rounds, and both as text. Pure but for `machine`."""

import importlib.metadata
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from benchmarks.measure import Point, Run
from tidemill.runtime.sizes import format_size

PACKAGES = ("tidemill", "numpy", "numba")


@dataclass(frozen=True)
class ModelBytes:
    """`whole`: in F16, what shares are of. `dram_s_per_token`: what its stored weights take from the memory."""

    whole: int
    dram_s_per_token: float


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """One run. `equal_tokens`: how many greedy tokens come before the first that differs from the model's own, those of
    the first contender's first run; None when nothing was decoded. `io_s_per_token`: time in which reads were
    under way, most of it beside computing. `drive_bytes_per_s`: what the drive gave right before and after the run, or
    the throttle. `own_floor_s_per_token`: what this run's bytes take at least at that rate and at the memory's."""

    kind: str = "round"
    contender: str
    weights: str
    ceiling_bytes: int | None
    ceiling_share: float | None
    throttle_bytes_per_s: int | None
    round: int
    outcome: str
    detail: str
    decode_s_per_token: float | None
    decode_mean_s_per_token: float | None
    ttft_s: float | None
    load_s: float | None
    process_s: float
    tokens: int
    prompt_tokens: int | None
    equal_tokens: int | None
    peak_bytes: int | None
    limit_hits: int | None
    bytes_read_per_token: float | None
    flash_bytes_per_s: float | None
    io_s_per_token: float | None
    stall_s_per_token: float | None
    compute_s_per_token: float | None
    management_s_per_token: float | None
    drive_bytes_per_s: float | None
    own_floor_s_per_token: float | None
    not_imposed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """Medians, least and most over the rounds that ended well. `times_first`: s/token over the first contender's.
    `times_floor`: s/token over the least that the drive and the memory allow any program; `times_own_floor`: over the
    least for the bytes that it streams itself, each run's over its own, [min, median, max]."""

    kind: str = "summary"
    contender: str
    weights: str
    model: str
    model_note: str
    ceiling_bytes: int | None
    ceiling_share: float | None
    throttle_bytes_per_s: int | None
    rounds: int
    outcomes: tuple[str, ...]
    tokens: int
    prompt_tokens: int | None
    decode_s_per_token: float | None
    min_s: float | None
    max_s: float | None
    decode_mean_s_per_token: float | None
    ttft_s: float | None
    process_s: float | None
    peak_bytes: int | None
    equal_tokens: int | None
    times_first: float | None
    floor_s_per_token: float
    times_floor: float | None
    times_own_floor: tuple[float, float, float] | None
    bytes_read_per_token: float | None
    io_s_per_token: float | None
    stall_s_per_token: float | None
    compute_s_per_token: float | None
    management_s_per_token: float | None
    not_imposed: tuple[str, ...]
    machine: str
    versions: dict[str, str]


def round_row(
    contender: tuple[str, str], point: Point, model: ModelBytes, number: int, run: Run, expected: Sequence[int]
) -> RoundRow:
    """`contender` is its name and weights; `expected` may be empty: nobody decoded yet."""
    decoded = run.decoded
    read, busy_rate = (decoded.bytes_read_per_token, decoded.flash_bytes_per_s) if decoded else (None, None)
    drive = point.throttle_bytes_per_s or run.drive_bytes_per_s
    return RoundRow(
        contender=contender[0],
        weights=contender[1],
        ceiling_bytes=point.ceiling_bytes,
        ceiling_share=None if point.ceiling_bytes is None else point.ceiling_bytes / model.whole,
        throttle_bytes_per_s=point.throttle_bytes_per_s,
        round=number,
        outcome=run.outcome,
        detail=run.detail,
        decode_s_per_token=run.decode_s_per_token,
        decode_mean_s_per_token=run.decode_mean_s_per_token,
        ttft_s=run.ttft_s,
        load_s=decoded.load_s if decoded else None,
        process_s=run.process_s,
        tokens=len(decoded.token_ids) if decoded else 0,
        prompt_tokens=decoded.prompt_tokens if decoded else None,
        equal_tokens=count_equal(decoded.token_ids, expected) if decoded and expected else None,
        peak_bytes=run.peak_bytes,
        limit_hits=run.limit_hits,
        bytes_read_per_token=read,
        flash_bytes_per_s=busy_rate,
        io_s_per_token=None if read is None or not busy_rate else read / busy_rate,
        stall_s_per_token=decoded.stall_s_per_token if decoded else None,
        compute_s_per_token=decoded.compute_s_per_token if decoded else None,
        management_s_per_token=decoded.management_s_per_token if decoded else None,
        drive_bytes_per_s=drive,
        own_floor_s_per_token=None if read is None or not drive else max(read / drive, model.dram_s_per_token),
        not_imposed=run.missing,
    )


def count_equal(got: Sequence[int], expected: Sequence[int]) -> int:
    pairs = enumerate(zip(got, expected, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(got), len(expected)))


def summarise(
    rows: Sequence[RoundRow], *, first: Sequence[RoundRow], floor_s: float, model: str, model_note: str
) -> SummaryRow:
    """`rows` are the rounds of one contender at one point, `first` those of the first contender there."""
    decode, base = _values(rows, lambda row: row.decode_s_per_token), _middle(first, lambda row: row.decode_s_per_token)
    middle = median(decode) if decode else None
    return SummaryRow(
        contender=rows[0].contender,
        weights=rows[0].weights,
        model=model,
        model_note=model_note,
        ceiling_bytes=rows[0].ceiling_bytes,
        ceiling_share=rows[0].ceiling_share,
        throttle_bytes_per_s=rows[0].throttle_bytes_per_s,
        rounds=len(rows),
        outcomes=tuple(row.outcome for row in rows),
        tokens=max(row.tokens for row in rows),
        prompt_tokens=next((row.prompt_tokens for row in rows if row.prompt_tokens), None),
        decode_s_per_token=middle,
        min_s=min(decode, default=None),
        max_s=max(decode, default=None),
        decode_mean_s_per_token=_middle(rows, lambda row: row.decode_mean_s_per_token),
        ttft_s=_middle(rows, lambda row: row.ttft_s),
        process_s=_middle(rows, lambda row: row.process_s if row.outcome == "ok" else None),
        peak_bytes=max((row.peak_bytes for row in rows if row.peak_bytes is not None), default=None),
        equal_tokens=min((row.equal_tokens for row in rows if row.equal_tokens is not None), default=None),
        times_first=middle / base if middle and base else None,
        floor_s_per_token=floor_s,
        times_floor=middle / floor_s if middle else None,
        times_own_floor=_spread(_values(rows, _times_own_floor)),
        bytes_read_per_token=_middle(rows, lambda row: row.bytes_read_per_token),
        io_s_per_token=_middle(rows, lambda row: row.io_s_per_token),
        stall_s_per_token=_middle(rows, lambda row: row.stall_s_per_token),
        compute_s_per_token=_middle(rows, lambda row: row.compute_s_per_token),
        management_s_per_token=_middle(rows, lambda row: row.management_s_per_token),
        not_imposed=tuple(sorted({what for row in rows for what in row.not_imposed})),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def _times_own_floor(row: RoundRow) -> float | None:
    decode, floor = row.decode_s_per_token, row.own_floor_s_per_token
    return decode / floor if decode and floor else None


def _spread(values: Sequence[float]) -> tuple[float, float, float] | None:
    return (min(values), median(values), max(values)) if values else None


def as_parts_table(summaries: Sequence[SummaryRow]) -> Table:
    """Where a token's time goes, of the contenders that say."""
    table = Table(
        "ceiling", "reads", "contender", "MB read", "I/O", "stall", "compute", "management", "s/token",
        "× own floor (min to max)", title="where a token's time goes, s", box=None, pad_edge=False,
    )  # fmt: skip
    for row in summaries:
        if row.stall_s_per_token is None or row.decode_s_per_token is None:
            continue
        times = (row.io_s_per_token, row.stall_s_per_token, row.compute_s_per_token, row.management_s_per_token)
        own = row.times_own_floor
        table.add_row(
            ceiling_text(row),
            throttle_text(row.throttle_bytes_per_s),
            row.contender,
            f"{(row.bytes_read_per_token or 0) / 1e6:.0f}",
            *("-" if time is None else f"{time:.3f}" for time in times),
            f"{row.decode_s_per_token:.3f}",
            "-" if own is None else f"{own[1]:.2f} ({own[0]:.2f} to {own[2]:.2f})",
        )
    return table


def as_table(summaries: Sequence[SummaryRow]) -> Table:
    title = f"{summaries[0].model}{': ' if summaries[0].model_note else ''}{summaries[0].model_note}"
    table = Table(
        "ceiling", "reads", "contender", "tok/s", "s/token (min to max)", "first token", "peak", "same tokens",
        "× time", "× floor", title=title, box=None, pad_edge=False,
    )  # fmt: skip
    for row in summaries:
        table.add_row(ceiling_text(row), throttle_text(row.throttle_bytes_per_s), row.contender, *_cells(row))
    return table


def ceiling_text(row: SummaryRow) -> str:
    if row.ceiling_bytes is None:
        return "none"
    return f"{format_size(row.ceiling_bytes)} ({row.ceiling_share or 0:.0%})"


def throttle_text(bytes_per_s: int | None) -> str:
    return "unthrottled" if bytes_per_s is None else f"{bytes_per_s / 1e9:g} GB/s"


def _cells(row: SummaryRow) -> list[str]:
    peak = "-" if row.peak_bytes is None else format_size(row.peak_bytes)
    if row.decode_s_per_token is None:
        return ["-", ", ".join(dict.fromkeys(row.outcomes)), "-", peak, "-", "-", "-"]
    bad = sum(outcome != "ok" for outcome in row.outcomes)
    spread = f"{row.decode_s_per_token:.3f} ({row.min_s:.3f} to {row.max_s:.3f})" + (f", {bad} bad" if bad else "")
    return [
        f"{1 / row.decode_s_per_token:.2f}",
        spread,
        "-" if row.ttft_s is None else f"{row.ttft_s:.2f} s",
        peak,
        "-" if row.equal_tokens is None else f"{row.equal_tokens} of {row.tokens}",
        "-" if row.times_first is None else f"{row.times_first:.2f}",
        "-" if row.times_floor is None else f"{row.times_floor:.2f}",
    ]


def _values(rows: Sequence[RoundRow], value: Callable[[RoundRow], float | None]) -> list[float]:
    return [found for row in rows if (found := value(row)) is not None]


def _middle(rows: Sequence[RoundRow], value: Callable[[RoundRow], float | None]) -> float | None:
    values = _values(rows, value)
    return median(values) if values else None
