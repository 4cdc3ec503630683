"""Predictions of passes that draft (`tidemill plan --draft`) against measured runs; fails when they are off.

As planner_accuracy.py, whose rounds, drive and throttles these are, with one kind of draft at fixed lengths. What is
predicted is the machine's part: how long a pass takes. How many of its tokens are right is the text's part: the row
says the share, and the seconds per token as predicted with it. Prints one JSON row per point (medians over rounds) and
one with the mean absolute percentage error of the seconds per pass. Exit status 1 when that exceeds 10 %, 2 when the
drive cannot be throttled here.

    draft_accuracy.py --model MODEL --ceilings 2.2GiB,none --speeds none,0.8GB/s --lengths 2,4,8
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import msgspec

from benchmarks.limits import LimitedGroup, Limits
from benchmarks.planner_accuracy import (
    CONTEXT,
    FLASH_SECONDS,
    IO_DEPTH,
    PROMPT,
    PROMPT_TOKENS,
    TOLERANCE,
    Bench,
    CannotThrottleError,
)
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cell import measure_demands
from tidemill.runtime.cell_plan import CHUNK
from tidemill.runtime.cli.plan_basis import parse_rate
from tidemill.runtime.draft_options import DraftChoice, DraftOptions
from tidemill.runtime.options import default_threads
from tidemill.runtime.planning.constants import default_rates
from tidemill.runtime.planning.draft_prediction import DraftPrediction
from tidemill.runtime.planning.drafting import Drafting, plan_drafted
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.rates import MachineRates
from tidemill.runtime.planning.run_plan import cap_flash
from tidemill.runtime.sizes import parse_size
from tidemill.runtime.tuning.kernel_rates import ComputeRates, measure_kernels
from tidemill.runtime.tuning.saved_processes import find_processes
from tidemill.storage.manifest_file import load_manifest


@dataclass(frozen=True)
class Point:
    ceiling_bytes: int | None
    limit_bytes_per_s: float | None
    length: int


@dataclass(frozen=True)
class Measured:
    """Means over a run's passes; `acceptance`: of drafted tokens."""

    pass_s: float
    draft_s_per_token: float
    tokens_per_pass: float
    acceptance: float
    s_per_token: float
    streamed_bytes: float


@dataclass(frozen=True)
class Sample:
    predicted: DraftPrediction
    measured: Measured


@dataclass(frozen=True)
class Row:
    """Medians over rounds. Errors are (predicted - measured) / measured."""

    model: str
    kind: str
    ceiling_bytes: int | None
    flash_limit_bytes_per_s: float | None
    length: int
    acceptance: float
    predicted_pass_s: float
    measured_pass_s: float
    measured_pass_range_s: tuple[float, float]
    error: float
    predicted_draft_s: float
    measured_draft_s: float
    predicted_streamed_bytes: float
    measured_streamed_bytes: float
    measured_s_per_token: float
    rounds: int


def predict_point(bench: Bench, point: Point, kind: DraftChoice, rates: MachineRates) -> DraftPrediction:
    draft = DraftOptions(kind=kind, length=point.length)
    options = replace(bench.options(point.ceiling_bytes), draft=draft)
    demands = measure_demands(bench.manifest, options, find_processes())
    shape = RunShape(
        prompt_tokens=PROMPT_TOKENS, chunk=CHUNK, position=PROMPT_TOKENS, io_depth=IO_DEPTH, threads=bench.threads
    )
    run = plan_drafted(bench.manifest, demands, rates, shape, point.ceiling_bytes, Drafting(options=draft))
    if run.draft is None:
        raise SystemExit(f"{bench.directory} has no drafts by {kind} with a ceiling of {point.ceiling_bytes}")
    return run.draft


def run_point(bench: Bench, point: Point, kind: DraftChoice) -> Measured:
    """One run in a process tree of its own."""
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(bench.directory), "-p", PROMPT]
    command += ["--json", "-n", str(bench.tokens), "-c", str(CONTEXT), "-t", str(bench.threads), "--draft", kind]
    command += ["--draft-length", str(point.length), "--io-depth", str(IO_DEPTH)]
    command += ["--ram", str(point.ceiling_bytes or "none")]
    limit = None if point.limit_bytes_per_s is None else int(point.limit_bytes_per_s)
    with LimitedGroup(Limits(None, limit, bench.directory)) as group:
        if limit is not None and group.missing:
            raise CannotThrottleError("; ".join(group.missing))
        wrapped, environment = group.wrap(command)
        done = subprocess.run(wrapped, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"a run with --ram {point.ceiling_bytes} failed:\n{done.stderr}")
    return read_run(json.loads(done.stdout))


def read_run(summary: dict[str, object]) -> Measured:
    draft = cast(dict[str, float], summary["draft"])
    return Measured(
        pass_s=draft["draft_s_per_pass"] + draft["check_s_per_pass"],
        draft_s_per_token=draft["draft_s_per_pass"] * draft["passes"] / max(1.0, draft["drafted"]),
        tokens_per_pass=draft["tokens_per_pass"],
        acceptance=draft["acceptance"] or 0.0,
        s_per_token=cast(float, summary["decode_s_per_token"]),
        streamed_bytes=draft["bytes_per_pass"],
    )


def measure_round(bench: Bench, points: Sequence[Point], kind: DraftChoice, samples: dict[Point, list[Sample]]) -> None:
    compute = measure_kernels(bench.threads, bench.manifest.matrix_kinds)
    for point in points:
        predicted = predict_point(bench, point, kind, _rates(bench, compute, point.limit_bytes_per_s))
        measured = run_point(bench, point, kind)
        samples[point].append(Sample(predicted, measured))
        sys.stderr.write(
            f"{point}: a pass predicted {predicted.pass_s * 1e3:.0f} ms, measured {measured.pass_s * 1e3:.0f} ms; "
            f"drafting a token {predicted.draft_s_per_token * 1e3:.0f}, {measured.draft_s_per_token * 1e3:.0f} ms\n"
        )


def _rates(bench: Bench, compute: ComputeRates, limit: float | None) -> MachineRates:
    rates = msgspec.structs.replace(
        default_rates(bench.threads),
        flash=bench.measure_flash(),
        dram_bytes_per_s=compute.dram_bytes_per_s,
        kernels=compute.kernels,
    )
    return rates if limit is None else cap_flash(rates, limit)


def summarise(model: str, kind: str, point: Point, samples: Sequence[Sample]) -> Row:
    passes = [sample.measured.pass_s for sample in samples]
    predicted_s = median(sample.predicted.pass_s for sample in samples)
    return Row(
        model=model,
        kind=kind,
        ceiling_bytes=point.ceiling_bytes,
        flash_limit_bytes_per_s=point.limit_bytes_per_s,
        length=point.length,
        acceptance=median(sample.measured.acceptance for sample in samples),
        predicted_pass_s=predicted_s,
        measured_pass_s=median(passes),
        measured_pass_range_s=(min(passes), max(passes)),
        error=predicted_s / median(passes) - 1,
        predicted_draft_s=median(sample.predicted.draft_s_per_token for sample in samples),
        measured_draft_s=median(sample.measured.draft_s_per_token for sample in samples),
        predicted_streamed_bytes=median(
            sample.predicted.streamed_bytes_per_token * sample.predicted.tokens_per_pass for sample in samples
        ),
        measured_streamed_bytes=median(sample.measured.streamed_bytes for sample in samples),
        measured_s_per_token=median(sample.measured.s_per_token for sample in samples),
        rounds=len(samples),
    )


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that no cgroup is left
    arguments = parse_arguments()
    directory = resolve_model(arguments.model)
    bench = Bench(directory, load_manifest(directory), arguments.threads, arguments.tokens, FLASH_SECONDS)
    bench.run(None, None)  # weighs the processes, as any earlier run has on a user's machine; compiles kernels
    ceilings = [None if text == "none" else parse_size(text) for text in arguments.ceilings.split(",")]
    speeds = [None if text == "none" else float(parse_rate(text)) for text in arguments.speeds.split(",")]
    lengths = [int(text) for text in arguments.lengths.split(",")]
    points = [Point(*parts) for parts in product(ceilings, speeds, lengths)]
    samples: dict[Point, list[Sample]] = {point: [] for point in points}
    try:
        for _ in range(arguments.rounds):
            measure_round(bench, points, arguments.kind, samples)
    except CannotThrottleError as error:
        sys.stderr.write(f"not measured: {error}\n")
        return 2
    rows = [summarise(directory.name, arguments.kind, point, samples[point]) for point in points]
    for row in rows:
        print(json.dumps(asdict(row)))
    mean_error = mean(abs(row.error) for row in rows)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    print(json.dumps({"mean_absolute_error": mean_error, "points": len(rows), "machine": machine}))
    return 0 if mean_error <= TOLERANCE else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--kind", default="planes", choices=("planes", "ngram"))
    parser.add_argument("--ceilings", default="none", help="for example 2GiB,none")
    parser.add_argument("--speeds", default="none,0.8GB/s", help="of the drive")
    parser.add_argument("--lengths", default="2,4,8", help="tokens drafted in each pass")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=default_threads())
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
