"""Runs and rows with made-up figures."""

from benchmarks.contenders import Decoded
from benchmarks.measure import Outcome, Point, Run
from benchmarks.report import RoundRow, round_row

POINT = Point(ceiling_bytes=500, throttle_bytes_per_s=None)


def run_of(*token_s: float, outcome: Outcome = "ok", token_ids: tuple[int, ...] = (1, 2, 3)) -> Run:
    decoded = Decoded(8, token_ids, token_s, load_s=0.5) if outcome == "ok" else None
    return Run(
        outcome=outcome,
        detail="",
        process_s=9.0,
        peak_bytes=400,
        limit_hits=0,
        missing=("a throttle",),
        decoded=decoded,
    )


def row_of(name: str, run: Run, *, number: int = 0, point: Point = POINT) -> RoundRow:
    return round_row((name, "bf16"), point, 1000, number, run, (1, 2, 3))
