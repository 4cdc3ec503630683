import json
from dataclasses import asdict, replace

from tidemill.runtime.events import Gathers, TokenGenerated
from tidemill.runtime.report import BundleReport, EngineReport
from tidemill.runtime.summary import Outcome, summarise

ISSUED_KEYS = (
    "text token_ids prompt_tokens generated_tokens ttft_s prompt_s decode_s_per_token bytes_read bytes_read_per_token "
    "flash_bytes_per_s stall_s_per_token compute_s_per_token arena_bytes locked_bytes ceiling_bytes peak_bytes "
    "overhead_bytes "
    "load_mode bottleneck"
)
REPORT = EngineReport(
    ceiling_bytes=None,
    arena_bytes=100,
    locked_bytes=60,
    ring_bytes=20,
    kv_bytes=5,
    overhead_bytes=None,
    peak_bytes=None,
    process_bytes={},
    load_mode="direct",
    launcher="local",
    draft="none",
    flash_bytes=4000,
    flash_reads=4,
    flash_busy_ns=2_000_000_000,
    flash_retries=0,
    flash_rereads=0,
    emulation=None,
    streamed_bytes=3000,
    dropped_bytes=0,
    bundles=None,
    ledger=(("arena", 100),),
    start_s={"processes": 0.5},
)
OUTCOME = Outcome(model="m", text="abc", finish_reason="length", prompt_tokens=10, ttft_ns=3_000_000_000, version="1")


def token(
    elapsed_s: float, compute_s: float, stall_s: float, flash_bytes: int, busy_s: float | None = None
) -> TokenGenerated:
    return TokenGenerated(
        1,
        int(elapsed_s * 1e9),
        int(compute_s * 1e9),
        int(stall_s * 1e9),
        flash_bytes=flash_bytes,
        flash_reads=flash_bytes // 50,
        flash_busy_ns=int((stall_s if busy_s is None else busy_s) * 1e9),
        gathers=Gathers(flash_bytes // 100, flash_bytes // 2, flash_bytes // 4),
        logits_checksum=0,
    )


def test_figures_are_medians_over_the_tokens_after_the_first() -> None:
    tokens = [token(2, 1, 1, 900), token(0.5, 0.1, 0.3, 100), token(0.7, 0.2, 0.4, 300), token(9, 0.1, 8, 200)]
    s = summarise(OUTCOME, tokens, REPORT)
    assert (s.prompt_s, s.prompt_tokens_per_s, s.ttft_s) == (2.0, 5.0, 3.0)
    assert (s.decode_s_per_token, s.compute_s_per_token, s.stall_s_per_token) == (0.7, 0.1, 0.4)
    assert s.decode_s_per_token_p95 == 9.0
    assert (s.bytes_read_per_token, s.reads_per_token) == (200, 4)
    assert s.flash_bytes_per_s == 2000
    assert s.bottleneck.startswith("flash: 57%")
    assert summarise(OUTCOME, [token(1, 0, 0, 0), token(1, 0.8, 0.1, 0)], REPORT).bottleneck.startswith("compute: 80%")
    saturated = [token(1, 0, 0, 0), token(1.0, 0.7, 0.2, 5, busy_s=0.98)]
    assert summarise(OUTCOME, saturated, REPORT).bottleneck.startswith("flash: reads are under way 98%")
    assert "no cause dominates" in summarise(OUTCOME, [token(1, 0, 0, 0), token(1, 0.4, 0.3, 0)], REPORT).bottleneck


def test_what_was_not_measured_is_null_never_zero() -> None:
    result = json.loads(json.dumps(summarise(OUTCOME, [], REPORT).to_json()))
    for name in (
        "prompt_s",
        "decode_s_per_token",
        "stall_s_per_token",
        "compute_s_per_token",
        "bytes_read_per_token",
        "peak_bytes",
        "overhead_bytes",
        "ceiling_bytes",
    ):
        assert result[name] is None
    assert result["bottleneck"].startswith("not measured")


def test_every_promised_key_is_there() -> None:
    assert set(ISSUED_KEYS.split()) <= set(summarise(OUTCOME, [], REPORT).to_json())


def test_a_stall_without_reads_is_round_trips_and_not_the_drive() -> None:
    tokens = [token(1, 0, 0, 0), token(1, 0.2, 0.7, 0, busy_s=0), token(1, 0.2, 0.7, 0, busy_s=0.1)]
    s = summarise(OUTCOME, tokens, REPORT)
    assert s.round_trip_s_per_token == 0.65
    assert s.bottleneck.startswith("round trips: 65% of decode time waits for the arena's answers")


BUNDLES = BundleReport(
    used=200,
    hits=100,
    preload_hits=60,
    wasted=20,
    useful_flash_bytes=1000,
    preload_useful_bytes=600,
    preload_wasted_bytes=200,
    preload_cancelled_bytes=0,
    preload_tokens=3,
    quota_moved=7,
    cached_share=0.5,
    computed_share={"q": 0.5, "down": 0.25},
    computed_weight_share=0.4,
)


def test_a_run_over_single_bundles_tells_shares_and_reads() -> None:
    assert summarise(OUTCOME, [], REPORT).active is None
    report = replace(REPORT, bundles=BUNDLES)
    tokens = [token(1, 0, 0, 9000), token(1, 0.2, 0.7, 400), token(1, 0.2, 0.7, 800), token(1, 0.2, 0.7, 1200)]
    active = summarise(OUTCOME, tokens, report).active
    assert active is not None
    assert (active.hit_rate, active.preloaded_share, active.on_demand_share, active.wasted_share) == (
        0.5,
        0.3,
        0.2,
        0.1,
    )
    assert (active.requests_per_token, active.read_bytes_per_token, active.useful_bytes_per_token) == (8, 400, 200)
    assert (active.useful_ratio, active.mean_run_bytes) == (0.5, 50)
    assert (active.computed_share, active.computed_weight_share) == ({"q": 0.5, "down": 0.25}, 0.4)


def test_without_a_decoded_token_the_shares_are_null() -> None:
    idle = replace(BUNDLES, used=0, hits=0, preload_hits=0, wasted=0, computed_share=None, computed_weight_share=None)
    active = summarise(OUTCOME, [token(1, 0, 0, 9000)], replace(REPORT, bundles=idle)).active
    assert active is not None
    assert set(asdict(active).values()) == {None}
