"""Draws a Summary for people."""

from rich.console import Console
from rich.table import Table

from tidemill.runtime.active_summary import ActiveSummary
from tidemill.runtime.draft_summary import DraftSummary
from tidemill.runtime.report import BundleReport, EmulationReport
from tidemill.runtime.sizes import format_size
from tidemill.runtime.summary import Summary

SHOWN_S = 0.00005  # less is shown as 0.0 ms


def show_summary(console: Console, summary: Summary, *, verbose: bool) -> None:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in _rows(summary):
        table.add_row(name, value)
    console.print()
    console.print(table)
    if verbose:
        ledger = Table("ledger", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, size in summary.ledger:
            ledger.add_row(name, format_size(size))
        for name, size in summary.process_bytes.items():
            ledger.add_row(f"measured: {name}", format_size(size))
        console.print()
        console.print(ledger)


def _rows(s: Summary) -> list[tuple[str, str]]:
    ceiling = "no ceiling" if s.ceiling_bytes is None else f"ceiling {format_size(s.ceiling_bytes)}"
    peak = "not measured" if s.peak_bytes is None else format_size(s.peak_bytes)
    overhead = "not measured" if s.overhead_bytes is None else format_size(s.overhead_bytes)
    streamed = "resident: nothing is streamed" if s.ring_bytes == 0 else f"ring {format_size(s.ring_bytes)}"
    read = "not measured" if s.bytes_read_per_token is None else format_size(s.bytes_read_per_token)
    rate = "not measured" if s.flash_bytes_per_s is None else f"{s.flash_bytes_per_s / 1e9:.2f} GB/s"
    busy = "" if s.flash_busy_ratio is None else f", busy {min(s.flash_busy_ratio, 1.0):.0%} of the time"
    phases = ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in s.start_s.items())
    return [
        ("start", f"{_seconds(sum(s.start_s.values()))}: {phases}"),
        ("prompt", f"{s.prompt_tokens} tokens, {_rate(s.prompt_tokens_per_s)}, first token after {_seconds(s.ttft_s)}"),
        ("decode", f"{s.generated_tokens} tokens, {_rate(s.decode_tokens_per_s)}, "
                   f"{_seconds(s.decode_s_per_token)}/token (p95 {_seconds(s.decode_s_per_token_p95)})"),
        ("per token", f"stall {_seconds(s.stall_s_per_token)}{_round_trips(s.round_trip_s_per_token)}, "
                      f"compute {_seconds(s.compute_s_per_token)}, "
                      f"management {_seconds(s.management_s_per_token)} (derived)"),
        *([("drafts", _drafts(s.draft))] if s.draft is not None else []),
        ("flash", f"{read}/token, {format_size(s.bytes_read)} in all, {rate}, {s.load_mode} reads{busy}"),
        *([("emulated", _emulation(s.emulation))] if s.emulation is not None else []),
        *([("read again", _retries(s))] if s.read_retries or s.rereads else []),
        *([("restarts", f"{s.restarts}: actors died, and the text went on as it would have")] if s.restarts else []),
        ("arena", f"{format_size(s.arena_bytes)}: locked {format_size(s.locked_bytes)}, {streamed}"),
        *([("computed", _computed(s.active))] if s.active is not None and s.active.computed_share is not None else []),
        *([("bundles", _bundles(s.bundles))] if s.bundles is not None else []),
        *([("read ahead", _read_ahead(s.bundles))] if s.bundles is not None and s.bundles.used else []),
        *([("requests", _requests(s.active))] if s.active is not None and s.active.mean_run_bytes is not None else []),
        ("memory", f"peak {peak}, {ceiling}; {overhead} of it neither weights nor KV cache"),
        ("bottleneck", s.bottleneck),
    ]  # fmt: skip


def _emulation(e: EmulationReport) -> str:
    late = "the drive below was never slower"
    if e.late_requests:
        late = (
            f"the drive below was slower in {e.late_requests} requests, by {_seconds(e.late_s / e.late_requests)} on "
            "average"
        )
    faults = f", {e.faults} faults injected" if e.faults else ""
    return f"{e.device}: {late}{faults}"


def _retries(s: Summary) -> str:
    return f"{s.read_retries} reads after an error that passed, {s.rereads} after wrong checksums"


def _drafts(d: DraftSummary) -> str:
    if not d.drafted:
        return f"{d.kind}: none in {d.passes} steps"
    kinds = ", ".join(f"{name} {counts.passes}" for name, counts in d.by_kind.items())
    gain = "" if d.gain_over_none is None else f", {d.gain_over_none:.2f} times as fast as plain steps of this run"
    return (
        f"{d.kind}: {d.passes} passes ({kinds}), {d.tokens_per_pass:.2f} tokens each, {d.acceptance or 0:.0%} of "
        f"drafts right{gain}; drafting {_seconds(d.draft_s_per_pass)}, checking {_seconds(d.check_s_per_pass)}"
    )


def _bundles(b: BundleReport) -> str:
    if not b.used:
        return f"none selected; {b.cached_share:.0%} of them may stay in the arena"
    moved = f", {b.quota_moved} of them moved between layers" if b.quota_moved else ""
    return (
        f"{b.used} used: {b.hits / b.used:.1%} cached, {b.preload_hits / b.used:.1%} read ahead, "
        f"{b.demanded / b.used:.1%} on demand; {b.wasted} read ahead in vain; {b.cached_share:.0%} of all may "
        f"stay{moved}"
    )


def _read_ahead(b: BundleReport) -> str:
    return (
        f"{format_size(b.preload_useful_bytes)} used, {format_size(b.preload_wasted_bytes)} in vain, "
        f"{format_size(b.preload_cancelled_bytes)} given up in time; during {b.preload_tokens} tokens"
    )


def _computed(a: ActiveSummary) -> str:
    shares = a.computed_share or {}
    each = ", ".join(f"{operator} {share:.0%}" for operator, share in shares.items())
    return f"{a.computed_weight_share or 0.0:.0%} of the layers' weights: {each}"


def _requests(a: ActiveSummary) -> str:
    return (
        f"{a.requests_per_token or 0:.0f}/token of {format_size(a.mean_run_bytes or 0)} on average, "
        f"{a.useful_ratio or 0:.0%} of their bytes useful: {format_size(a.useful_bytes_per_token or 0)} of "
        f"{format_size(a.read_bytes_per_token or 0)}/token"
    )


def _round_trips(seconds: float | None) -> str:
    """Said where there is something to say."""
    return f" ({_seconds(seconds)} of it without a read under way)" if seconds and seconds >= SHOWN_S else ""


def _seconds(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def _rate(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} tok/s"
