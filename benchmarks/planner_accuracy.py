"""Predictions of `tidemill plan` against measured runs, over ceilings and flash speeds; fails when they are off.

Points take turns, round after round, so that drift of a shared machine hits all alike. Kernels are measured once a
round, the drive right before each run (it drifts by a factor of two on shared machines), and nothing of a run is known
to its prediction. Slower drives are made with a blkio cgroup (v1) or io.max (v2), for which it has to be root; the
prediction for them is that of the measured drive, capped. Prints one JSON row per point (medians over rounds) and one
with the mean absolute percentage error of the seconds per token, over all points. Exit status 1 when that exceeds
10 %, 2 when the drive cannot be throttled here.

With --select S the models are ones whose bundles come one by one (several, with commas), each decodes with its layout's
selection at that sparsity, and 15 % passes (selected_accuracy.py):

    planner_accuracy.py --select 0.5 --model NEURON,CHANNELS-1,CHANNELS-4 --ceilings 50%,35%,25% --speeds none,0.8GB/s
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import msgspec

from benchmarks.limits import LimitedGroup, Limits
from benchmarks.selected_accuracy import Setup, measure_selected
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cell import measure_demands
from tidemill.runtime.cell_plan import CHUNK
from tidemill.runtime.cli.plan_basis import parse_rate
from tidemill.runtime.ledger import MIB, plan_ledger
from tidemill.runtime.options import EngineOptions, choose_load_mode, default_threads
from tidemill.runtime.planning.constants import default_rates
from tidemill.runtime.planning.prediction import Prediction, RunShape, predict
from tidemill.runtime.planning.rates import FlashRates, MachineRates
from tidemill.runtime.planning.run_plan import cap_flash, ceiling_range
from tidemill.runtime.planning.workload import plan_workload
from tidemill.runtime.sizes import parse_size
from tidemill.runtime.tuning.flash import FlashMeter, FlashPlan
from tidemill.runtime.tuning.kernel_rates import SECONDS as KERNEL_SECONDS
from tidemill.runtime.tuning.kernel_rates import measure_kernels
from tidemill.runtime.tuning.saved_processes import find_processes
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

PROMPT = "Once upon a time, in a village by the sea, there lived"
PROMPT_TOKENS, CONTEXT, IO_DEPTH = 14, 256, 4
SHARES = (0.25, 0.5, 0.75)  # of the way from the smallest ceiling to the one that holds the model
SMOKE_ROOM_BYTES = 256 * MIB  # beyond the resident model: it runs, whatever its processes weigh just then
SPEEDS = (0.4e9, 0.8e9, None)  # bytes per second
TOLERANCE = 0.10  # mean absolute error that passes
FLASH_SECONDS, SMOKE_FLASH_SECONDS = 0.6, 0.01  # for each request size, before each run
SMOKE_KERNEL_SECONDS = 0.05  # for each rate


class CannotThrottleError(RuntimeError):
    """This machine or user cannot slow a drive down."""


@dataclass(frozen=True)
class Row:
    """Medians over rounds. Errors are (predicted - measured) / measured."""

    model: str
    ceiling_bytes: int
    flash_limit_bytes_per_s: float | None
    flash_bytes_per_s: float  # as the drive was measured (1 MiB requests or less), capped by the limit
    predicted_s_per_token: float
    measured_s_per_token: float
    measured_range_s: tuple[float, float]
    error: float
    predicted_streamed_bytes: float
    measured_streamed_bytes: float
    predicted_prompt_s: float
    measured_prompt_s: float
    prompt_error: float
    floor_s_per_token: float
    bottleneck: str
    rounds: int


@dataclass(frozen=True)
class Measured:
    decode_s: float
    prompt_s: float
    streamed_bytes: int


@dataclass(frozen=True)
class Sample:
    prediction: Prediction
    flash_bytes_per_s: float
    measured: Measured


@dataclass(frozen=True)
class Bench:
    directory: Path
    manifest: Manifest
    threads: int
    tokens: int
    flash_seconds: float
    kernel_seconds: float = KERNEL_SECONDS

    def options(self, ceiling_bytes: int | None) -> EngineOptions:
        return EngineOptions(
            model=self.directory,
            ram_bytes=ceiling_bytes,
            arena_bytes=None,
            context=CONTEXT,
            threads=self.threads,
            load_mode=choose_load_mode("auto"),
            launcher="local",
            io_depth=IO_DEPTH,
        )

    def ceiling_range(self) -> tuple[int, int]:
        """(the smallest possible ceiling, the one that holds the whole model)"""
        demands = measure_demands(self.manifest, self.options(None), find_processes())
        return ceiling_range(lambda size: plan_ledger(self.manifest, demands, ceiling_bytes=size, arena_bytes=None))

    def measure_flash(self) -> FlashRates:
        shards = [self.directory / shard.file for shard in self.manifest.shards]
        largest = max(path.stat().st_size for path in shards)
        sizes = tuple(size for size in (64 << 10, 512 << 10, 1 << 20) if size <= largest)
        plan = FlashPlan(request_sizes=sizes, depths=(IO_DEPTH,), seconds=self.flash_seconds)
        return FlashMeter(shards, source=self.directory.name).measure(plan, lambda _: None)

    def predict(self, rates: MachineRates, ceiling_bytes: int) -> Prediction:
        demands = measure_demands(self.manifest, self.options(ceiling_bytes), find_processes())
        ledger = plan_ledger(self.manifest, demands, ceiling_bytes=ceiling_bytes, arena_bytes=None)
        shape = RunShape(
            prompt_tokens=PROMPT_TOKENS, chunk=CHUNK, position=PROMPT_TOKENS, io_depth=IO_DEPTH, threads=self.threads
        )
        return predict(plan_workload(self.manifest, ledger.arena), rates, shape)

    def run(self, ceiling_bytes: int | None, limit_bytes_per_s: float | None) -> Measured:
        """One run in a process tree of its own."""
        command = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(self.directory), "-p", PROMPT]
        command += ["--json", "-n", str(self.tokens), "-c", str(CONTEXT), "-t", str(self.threads), "--draft", "none"]
        command += ["--io-depth", str(IO_DEPTH), "--ram", "auto" if ceiling_bytes is None else str(ceiling_bytes)]
        limit = None if limit_bytes_per_s is None else int(limit_bytes_per_s)
        with LimitedGroup(Limits(None, limit, self.directory)) as group:
            if limit is not None and group.missing:
                raise CannotThrottleError("; ".join(group.missing))
            wrapped, environment = group.wrap(command)
            done = subprocess.run(
                wrapped, env={**os.environ, **environment}, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise SystemExit(f"a run with --ram {ceiling_bytes} failed:\n{done.stderr}")
        result = json.loads(done.stdout)
        return Measured(result["decode_s_per_token"], result["ttft_s"], int(result["bytes_read_per_token"]))


def measure_round(
    bench: Bench, points: Sequence[tuple[int, float | None]], samples: dict[tuple[int, float | None], list[Sample]]
) -> None:
    compute = measure_kernels(bench.threads, bench.manifest.matrix_kinds, bench.kernel_seconds)
    for ceiling, limit in points:
        rates = msgspec.structs.replace(
            default_rates(bench.threads),
            flash=bench.measure_flash(),
            dram_bytes_per_s=compute.dram_bytes_per_s,
            kernels=compute.kernels,
        )
        if limit is not None:
            rates = cap_flash(rates, limit)
        prediction = bench.predict(rates, ceiling)
        measured = bench.run(ceiling, limit)
        flash = max(point.bytes_per_s for point in rates.flash.points)
        samples[ceiling, limit].append(Sample(prediction, flash, measured))
        sys.stderr.write(
            f"{ceiling >> 20} MiB, {'unthrottled' if limit is None else f'{limit / 1e9:.1f} GB/s'}: predicted "
            f"{prediction.decode_s_per_token * 1e3:.1f} ms, measured "
            f"{measured.decode_s * 1e3:.1f} ms; streamed {prediction.streamed_bytes_per_token / 1e6:.1f} MB, measured "
            f"{measured.streamed_bytes / 1e6:.1f} MB; prompt {prediction.prompt_s:.2f} s, {measured.prompt_s:.2f} s\n"
        )


def summarise(model: str, point: tuple[int, float | None], samples: Sequence[Sample]) -> Row:
    """Errors are those of the medians: how fast a drive reads hangs on where pages come to lie, which differs from one
    process to the next, in the measurement before a run as in the run."""
    measured = [sample.measured.decode_s for sample in samples]
    predicted_s = median(s.prediction.decode_s_per_token for s in samples)
    prompt_s = median(s.prediction.prompt_s for s in samples)
    return Row(
        model=model,
        ceiling_bytes=point[0],
        flash_limit_bytes_per_s=point[1],
        flash_bytes_per_s=median(sample.flash_bytes_per_s for sample in samples),
        predicted_s_per_token=predicted_s,
        measured_s_per_token=median(measured),
        measured_range_s=(min(measured), max(measured)),
        error=predicted_s / median(measured) - 1,
        predicted_streamed_bytes=median(sample.prediction.streamed_bytes_per_token for sample in samples),
        measured_streamed_bytes=median(sample.measured.streamed_bytes for sample in samples),
        predicted_prompt_s=prompt_s,
        measured_prompt_s=median(sample.measured.prompt_s for sample in samples),
        prompt_error=prompt_s / median(s.measured.prompt_s for s in samples) - 1,
        floor_s_per_token=median(sample.prediction.floor_s_per_token for sample in samples),
        bottleneck=samples[-1].prediction.bottleneck,
        rounds=len(samples),
    )


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that no cgroup is left
    arguments = parse_arguments()
    if arguments.select is not None:
        return measure_selected(
            [resolve_model(name) for name in arguments.model.split(",")],
            [parse_ceiling(text) for text in (arguments.ceilings or "50%,35%,25%").split(",")],
            [None if text == "none" else float(parse_rate(text)) for text in arguments.speeds.split(",")],
            Setup(
                threads=arguments.threads,
                io_depth=IO_DEPTH,
                tokens=arguments.tokens,
                sparsity=arguments.select,
                preload=arguments.preload,
                preload_share=arguments.preload_share,
            ),
            arguments.rounds,
        )
    directory = resolve_model(arguments.model)
    manifest = load_manifest(directory)
    seconds = (SMOKE_FLASH_SECONDS, SMOKE_KERNEL_SECONDS) if arguments.smoke else (FLASH_SECONDS, KERNEL_SECONDS)
    bench = Bench(directory, manifest, arguments.threads, arguments.tokens, *seconds)
    bench.run(None, None)  # weighs the processes, as any earlier run has on a user's machine; compiles kernels
    ceilings = choose_ceilings(bench, arguments)
    speeds = (None,) if arguments.smoke else SPEEDS
    points = [(ceiling, speed) for ceiling in ceilings for speed in speeds]
    samples: dict[tuple[int, float | None], list[Sample]] = {point: [] for point in points}
    try:
        for _ in range(arguments.rounds):
            measure_round(bench, points, samples)
    except CannotThrottleError as error:
        sys.stderr.write(f"not measured: {error}\n")
        return 2
    rows = [summarise(directory.name, point, samples[point]) for point in points]
    for row in rows:
        print(json.dumps(asdict(row)))
    mean_error = mean(abs(row.error) for row in rows)
    last = {
        "mean_absolute_error": mean_error,
        "mean_absolute_prompt_error": mean(abs(row.prompt_error) for row in rows),
        "points": len(rows),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
    }
    print(json.dumps(last))
    return 0 if arguments.smoke or mean_error <= TOLERANCE else 1


def choose_ceilings(bench: Bench, arguments: argparse.Namespace) -> list[int]:
    if arguments.ceilings:
        return [parse_size(text) for text in arguments.ceilings.split(",")]
    smallest, resident = bench.ceiling_range()
    if arguments.smoke:
        return [resident + SMOKE_ROOM_BYTES]
    return [smallest + int((resident - smallest) * share) // MIB * MIB for share in SHARES]


def parse_ceiling(text: str) -> int | float:
    """A size in bytes; a share of the weights at 16 bits each is a float."""
    return float(text[:-1]) / 100 if text.endswith("%") else parse_size(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--ceilings", help="for example 1GiB,2GiB,3GiB; by default from the model's own range")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--select", type=float, metavar="SPARSITY", help="predict runs with selections (see above)")
    parser.add_argument("--speeds", default="none,0.8GB/s", help="with --select: of the drive")
    parser.add_argument("--preload", default="none", help="with --select: of models of input channels")
    parser.add_argument("--preload-share", type=float, default=0.5)
    parser.add_argument("--smoke", action="store_true", help="one short, unthrottled round that cannot fail")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds, arguments.tokens = 1, 4
    return arguments


if __name__ == "__main__":
    sys.exit(main())
