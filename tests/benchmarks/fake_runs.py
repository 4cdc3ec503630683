"""Runs and rows with made-up figures."""

from benchmarks.contenders import Decoded
from benchmarks.measure import Outcome, Point, Run
from benchmarks.report import ModelBytes, RoundRow, round_row

POINT = Point(ceiling_bytes=500, throttle_bytes_per_s=None)


def run_of(
    *token_s: float,
    outcome: Outcome = "ok",
    token_ids: tuple[int, ...] = (1, 2, 3),
    read: float | None = None,
    drive: float | None = None,
) -> Run:
    """`read`: bytes a token; `drive`: bytes a second."""
    parts = (None,) * 5 if read is None else (read, 2 * read, 0.3, 0.2, 0.1)
    decoded = Decoded(8, token_ids, token_s, 0.5, *parts) if outcome == "ok" else None
    return Run(
        outcome=outcome,
        detail="",
        process_s=9.0,
        peak_bytes=400,
        limit_hits=0,
        missing=("a throttle",),
        decoded=decoded,
        drive_bytes_per_s=drive,
    )


def row_of(name: str, run: Run, *, number: int = 0, point: Point = POINT) -> RoundRow:
    return round_row((name, "bf16"), point, ModelBytes(1000, dram_s_per_token=0.001), number, run, (1, 2, 3))
