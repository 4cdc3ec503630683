"""The figures of one generation: pure arithmetic over its events and the engine's report. What was not measured is
None."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median

from tidemill.runtime.active_summary import ActiveSummary, summarise_active
from tidemill.runtime.bottleneck import TokenTime, name_bottleneck
from tidemill.runtime.draft_summary import DraftSummary, summarise_drafts
from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.report import BundleReport, EmulationReport, EngineReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Times in seconds, sizes in bytes. Decode figures are over the tokens after the first, medians unless named
    otherwise; of runs that may draft, whose steps bring several tokens or one, they are means."""

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
    reads_per_token: float | None
    flash_bytes_per_s: float | None  # while at least one read was under way
    flash_busy_ratio: float | None  # share of decode time with at least one read under way
    read_retries: int  # since the model was opened: reads tried again after an error that may pass,
    rereads: int  # and after damage that may have happened on the way
    restarts: int  # of cells that lost an actor; what is counted since the model was opened is the last one's
    emulation: EmulationReport | None
    stall_s_per_token: float | None
    round_trip_s_per_token: float | None  # of the stall: with no read under way
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
    draft: DraftSummary | None  # of runs that may draft
    active: ActiveSummary | None  # of models whose bundles come one by one
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
    middle = mean if any(token.drafted_pass is not None for token in later) else median
    prompt_s = first[0].elapsed_ns / 1e9 if first else None
    decode_s = _middle_s(middle, [token.elapsed_ns for token in later])
    stall_s, compute_s = (
        _middle_s(middle, [t.stall_ns for t in later]),
        _middle_s(middle, [t.compute_ns for t in later]),
    )
    busy_ratio = sum(t.flash_busy_ns for t in later) / sum(t.elapsed_ns for t in later) if later else None
    management = [token.elapsed_ns - token.stall_ns - token.compute_ns for token in later]
    management_s = _middle_s(middle, management)
    round_trip_s = _middle_s(middle, [max(0, token.stall_ns - token.flash_busy_ns) for token in later])
    time = TokenTime(
        decode_s=decode_s, stall_s=stall_s, round_trip_s=round_trip_s, compute_s=compute_s, management_s=management_s,
        flash_busy_ratio=busy_ratio or 0.0,
    )  # fmt: skip
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
        bytes_read_per_token=middle([token.flash_bytes for token in later]) if later else None,
        reads_per_token=middle([token.flash_reads for token in later]) if later else None,
        flash_bytes_per_s=report.flash_bytes / report.flash_busy_ns * 1e9 if report.flash_busy_ns else None,
        flash_busy_ratio=busy_ratio,
        read_retries=report.flash_retries,
        rereads=report.flash_rereads,
        restarts=report.restarts,
        emulation=report.emulation,
        stall_s_per_token=stall_s,
        round_trip_s_per_token=round_trip_s,
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
        draft=summarise_drafts(report.draft, later),
        active=summarise_active(report.bundles, later) if report.bundles is not None else None,
        bottleneck=name_bottleneck(time),
        version=outcome.version,
    )


def _middle_s(middle: Callable[[Sequence[int]], float], values: Sequence[int]) -> float | None:
    return middle(values) / 1e9 if values else None


def _percentile_s(values: Sequence[int], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e9
