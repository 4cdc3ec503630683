"""The figures of one generation: pure arithmetic over its events and the engine's report. What was not measured is
None."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.report import BundleReport, EngineReport

SATURATED_RATIO = 0.9  # of the time with reads under way: the drive is the bound
BOUND_RATIO = 0.5  # a cause that takes more than this share of the time is the bottleneck


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Times in seconds, sizes in bytes. Decode figures are over the tokens after the first, medians unless named
    otherwise."""

    model: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    start_s: dict[str, float]  # from the command or call to the prompt, by phase
    ttft_s: float | None  # from the call to the first token
    prompt_s: float | None  # the step that computed the prompt
    prompt_tokens_per_s: float | None
    decode_s_per_token: float | None
    decode_s_per_token_p95: float | None
    decode_tokens_per_s: float | None
    bytes_read: int  # from flash between the call and the last token
    bytes_read_per_token: float | None
    flash_bytes_per_s: float | None  # while at least one read was under way
    flash_busy_ratio: float | None  # share of decode time with at least one read under way
    stall_s_per_token: float | None
    compute_s_per_token: float | None
    management_s_per_token: float | None  # derived: what is neither stall nor compute
    arena_bytes: int
    locked_bytes: int
    ring_bytes: int
    kv_bytes: int
    ceiling_bytes: int | None
    peak_bytes: int | None
    overhead_bytes: int | None
    process_bytes: dict[str, int]
    ledger: tuple[tuple[str, int], ...]
    load_mode: str
    launcher: str
    bundles: BundleReport | None
    bottleneck: str
    version: str

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a generation was, apart from its timings."""

    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    ttft_ns: int | None
    version: str


def summarise(outcome: Outcome, tokens: Sequence[TokenGenerated], report: EngineReport) -> Summary:
    first, later = tokens[:1], tokens[1:]
    prompt_s = first[0].elapsed_ns / 1e9 if first else None
    decode_s = _median_s([token.elapsed_ns for token in later])
    stall_s, compute_s = _median_s([t.stall_ns for t in later]), _median_s([t.compute_ns for t in later])
    busy_ratio = sum(t.flash_busy_ns for t in later) / sum(t.elapsed_ns for t in later) if later else None
    management = [token.elapsed_ns - token.stall_ns - token.compute_ns for token in later]
    management_s = _median_s(management)
    return Summary(
        model=outcome.model,
        text=outcome.text,
        token_ids=tuple(token.token_id for token in tokens),
        finish_reason=outcome.finish_reason,
        prompt_tokens=outcome.prompt_tokens,
        generated_tokens=len(tokens),
        start_s=dict(report.start_s),
        ttft_s=None if outcome.ttft_ns is None else outcome.ttft_ns / 1e9,
        prompt_s=prompt_s,
        prompt_tokens_per_s=outcome.prompt_tokens / prompt_s if prompt_s else None,
        decode_s_per_token=decode_s,
        decode_s_per_token_p95=_percentile_s([token.elapsed_ns for token in later], 0.95),
        decode_tokens_per_s=1 / decode_s if decode_s else None,
        bytes_read=sum(token.flash_bytes for token in tokens),
        bytes_read_per_token=median([token.flash_bytes for token in later]) if later else None,
        flash_bytes_per_s=report.flash_bytes / report.flash_busy_ns * 1e9 if report.flash_busy_ns else None,
        flash_busy_ratio=busy_ratio,
        stall_s_per_token=stall_s,
        compute_s_per_token=compute_s,
        management_s_per_token=management_s,
        arena_bytes=report.arena_bytes,
        locked_bytes=report.locked_bytes,
        ring_bytes=report.ring_bytes,
        kv_bytes=report.kv_bytes,
        ceiling_bytes=report.ceiling_bytes,
        peak_bytes=report.peak_bytes,
        overhead_bytes=report.overhead_bytes,
        process_bytes=dict(report.process_bytes),
        ledger=report.ledger,
        load_mode=report.load_mode,
        launcher=report.launcher,
        bundles=report.bundles,
        bottleneck=_bottleneck(decode_s, stall_s, compute_s, management_s, busy_ratio or 0.0),
        version=outcome.version,
    )


def _bottleneck(
    decode_s: float | None, stall_s: float | None, compute_s: float | None, rest_s: float | None, busy_ratio: float
) -> str:
    """A drive that never rests bounds the time, however much of it computing happens to overlap."""
    if not decode_s or stall_s is None or compute_s is None or rest_s is None:
        return "not measured: fewer than two tokens"
    if busy_ratio > SATURATED_RATIO:
        waiting = f"{stall_s / decode_s:.0%} is spent waiting for them"
        return f"flash: reads are under way {min(busy_ratio, 1.0):.0%} of decode time, {waiting}"
    shares = {
        "flash: {} of decode time waits for weights to be read": stall_s / decode_s,
        "compute: {} of decode time is spent in kernels": compute_s / decode_s,
        "management: {} of decode time goes to messages, sampling and text": rest_s / decode_s,
    }
    text, share = max(shares.items(), key=lambda item: item[1])
    hint = "" if share > BOUND_RATIO else " (no cause dominates)"
    return text.format(f"{share:.0%}") + hint


def _median_s(values: Sequence[int]) -> float | None:
    return median(values) / 1e9 if values else None


def _percentile_s(values: Sequence[int], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e9
