from typing import cast

import pytest

from benchmarks.draft_accuracy import Measured, Point, Sample, read_run, summarise
from tidemill.runtime.planning.draft_prediction import DraftPrediction

SUMMARY: dict[str, object] = {
    "decode_s_per_token": 0.25,
    "draft": {
        "passes": 10, "drafted": 35, "acceptance": 0.8, "tokens_per_pass": 3.8, "draft_s_per_pass": 0.35,
        "check_s_per_pass": 0.6, "bytes_per_pass": 7e8,
    },
}  # fmt: skip


def test_a_run_says_what_its_passes_took() -> None:
    run = read_run(SUMMARY)
    assert run.pass_s == pytest.approx(0.95)
    assert run.draft_s_per_token == pytest.approx(0.1)
    assert (run.tokens_per_pass, run.acceptance, run.s_per_token, run.streamed_bytes) == (3.8, 0.8, 0.25, 7e8)


def test_a_run_whose_text_ended_before_anything_was_drafted_is_read() -> None:
    summary = {**SUMMARY, "draft": {**cast(dict[str, object], SUMMARY["draft"]), "drafted": 0, "acceptance": None}}
    assert read_run(summary).acceptance == 0.0


def test_a_row_compares_medians_of_rounds() -> None:
    def sample(predicted_s: float, measured_s: float) -> Sample:
        predicted = DraftPrediction(
            kind="planes", acceptance=0.85, length=4, tokens_per_pass=4.0, draft_s_per_token=0.1, check_s=0.2, io_s=0.5,
            ahead_s=0.1, pass_s=predicted_s, streamed_bytes_per_token=2e8, decode_tokens_per_s=1.0, gain_ratio=1.0,
        )  # fmt: skip
        return Sample(predicted, Measured(measured_s, 0.1, 3.0, 0.8, 0.3, 7e8))

    samples = [sample(0.9, 1.0), sample(1.1, 1.0), sample(1.2, 3.0)]
    row = summarise("m", "planes", Point(1 << 30, 0.8e9, 4), samples)
    assert row.error == pytest.approx(0.1)
    assert row.measured_pass_range_s == (1.0, 3.0)
    assert row.predicted_streamed_bytes == pytest.approx(8e8)
    assert row.rounds == 3
