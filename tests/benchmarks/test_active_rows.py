"""Rows and summaries of runs that nothing measured."""

from dataclasses import replace

import msgspec
import pytest

from benchmarks.active_rows import (
    EXACT,
    ActiveRow,
    TidemillDecoded,
    Where,
    active_row,
    summarise_all,
)
from benchmarks.active_variants import plan_variants
from benchmarks.measure import Run
from tests.benchmarks.fake_runs import POINT, run_of

VARIANT = plan_variants(["policies"], [0.5], 4)[0]
BUNDLES = {"used": 100, "hits": 60, "preload_hits": 30, "wasted": 5, "useful_flash_bytes": 500, "cached_share": 0.4}


def where(contender: str, number: int = 0, batch: str = "ic4") -> Where:
    return Where(
        label="a",
        batch=batch,
        model="m",
        contender=contender,
        flags=(),
        ceiling_bytes=POINT.ceiling_bytes,
        throttle_bytes_per_s=None,
        tokens=3,
        prompt_tokens=8,
        round=number,
    )


def said(summary: dict[str, object]) -> Run:
    run = run_of(1.0, 0.5, 0.5)
    assert run.decoded is not None
    return replace(run, decoded=TidemillDecoded(**vars(run.decoded), summary=summary))


def row(contender: str, seconds: float, number: int = 0, batch: str = "ic4") -> ActiveRow:
    variant = None if contender == EXACT or contender.startswith("llama") else VARIANT
    return active_row(where(contender, number, batch), variant, POINT, 1000, run_of(1.0, seconds, seconds), (1, 2, 9))


def test_shares_are_of_the_bundles_that_were_computed_with() -> None:
    summary = {"bundles": BUNDLES, "active": {"useful_ratio": 0.5, "requests_per_token": 7}, "reads_per_token": 9}
    found = active_row(where("a"), VARIANT, POINT, 1000, said(summary), ())
    assert found.requests_per_token == 9
    counts = found.bundles
    assert counts is not None
    assert (counts.hit_ratio, counts.preloaded_ratio, counts.wasted_ratio) == (0.6, 0.3, 0.05)
    assert counts.demanded_ratio == pytest.approx(0.1)
    assert (counts.wanted_byte_ratio, counts.requests, counts.cached_share) == (0.5, 7, 0.4)
    assert counts.preload_wasted_bytes is None


def test_what_a_run_does_not_say_is_none() -> None:
    silent = active_row(where("a"), VARIANT, POINT, 1000, said({}), ())
    assert (silent.requests_per_token, silent.bundles, silent.equal_tokens) == (None, None, None)
    failed = active_row(where("a"), VARIANT, POINT, 1000, run_of(outcome="failed"), (1,))
    assert (failed.decode_s_per_token, failed.token_ids) == (None, ())


def test_a_row_is_read_back_as_it_was_written() -> None:
    written = active_row(where("a"), VARIANT, POINT, 1000, said({"bundles": BUNDLES}), (1, 2, 9))
    assert written.equal_tokens == 2
    assert msgspec.json.decode(msgspec.json.encode(written), type=ActiveRow) == written


def test_speedups_are_over_the_exact_run_of_the_same_round_and_batch() -> None:
    rows = [
        row(EXACT, 1.0, 0), row("llama.cpp mmap", 4.0, 0), row(VARIANT.name, 0.5, 0),
        row(EXACT, 3.0, 1), row(VARIANT.name, 1.0, 1),
        row(EXACT, 50.0, 0, "other"), row(VARIANT.name, 1.0, 2),
    ]  # fmt: skip
    found = {(s.where.batch, s.where.contender): s for s in summarise_all(rows)}
    variant = found["ic4", VARIANT.name]
    assert variant.s_per_token == (0.5, 1.0, 1.0)
    assert variant.speedup == (2.0, 2.5, 3.0)
    assert variant.speedup_mmap == (8.0, 8.0, 8.0)
    assert found["other", EXACT].speedup_mmap is None


def test_a_variant_that_never_ran_has_outcomes_only() -> None:
    failed = active_row(where(VARIANT.name), VARIANT, POINT, 1000, run_of(outcome="out of memory"), ())
    (summary,) = summarise_all([failed])
    assert (summary.outcomes, summary.s_per_token, summary.speedup) == (("out of memory",), None, None)
    assert summary.medians["hit_ratio"] is None
