"""Predictions of `tidemill plan --select` against measured runs: the part of planner_accuracy.py that knows selections.

A point is a model (a layout, a group size) with a selection, a ceiling and a speed of the drive. Before each run the
drive is measured through gathers of the model's own bundles, once a round the kernels; nothing of a run is known to its
prediction but what the calibration says of its selection. Beside the errors it says what the planner's constants would
be by these runs: a least-squares fit of the parts of the time that they are about.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median

import msgspec
import numpy as np

from benchmarks.limits import LimitedGroup, Limits
from tidemill.actors.compute.selection.operators import PolicyName
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.active_planning import Grounds, active_setting, plan_way
from tidemill.runtime.cell_plan import CHUNK
from tidemill.runtime.options import LAYOUT_OF, EngineOptions, choose_load_mode, choose_quotas
from tidemill.runtime.planning.active_run import ActiveRun
from tidemill.runtime.planning.constants import (
    CHOICE_S,
    DEMAND_RATIO,
    KERNEL_RATIO,
    VISIT_S,
    default_rates,
)
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.rates import FlashRates, MachineRates
from tidemill.runtime.planning.run_plan import cap_flash
from tidemill.runtime.tuning.flash import FlashMeter, FlashPlan
from tidemill.runtime.tuning.gathers import GatherMeter, fit_positive
from tidemill.runtime.tuning.kernel_rates import measure_kernels
from tidemill.runtime.tuning.saved_processes import find_processes
from tidemill.storage.manifest import ELEMENT_BYTES, Manifest
from tidemill.storage.manifest_file import load_manifest

PROMPT = "Once upon a time, in a village by the sea, there lived"
PROMPT_TOKENS, CONTEXT = 14, 256
GATHER_SECONDS, FLASH_SECONDS = 0.15, 0.2  # for each share of each role, and each request size, before each run
TOLERANCE = 0.15  # mean absolute error that passes


@dataclass(frozen=True)
class Setup:
    threads: int
    io_depth: int
    tokens: int
    sparsity: float
    preload: str
    preload_share: float


@dataclass(frozen=True)
class Point:
    model: str
    ceiling_bytes: int
    flash_limit_bytes_per_s: float | None


@dataclass(frozen=True)
class Parts:
    """Seconds and bytes of a token."""

    token_s: float
    stall_s: float
    compute_s: float
    management_s: float
    flash_bytes: float
    hit_rate: float


@dataclass(frozen=True)
class Sample:
    predicted: Parts
    measured: Parts
    run: ActiveRun


@dataclass(frozen=True)
class Row:
    """Medians over rounds. The error is (predicted - measured) / measured seconds per token."""

    model: str
    layout: str
    group: int
    ceiling_bytes: int
    flash_limit_bytes_per_s: float | None
    selection: str
    preload: str
    predicted: Parts
    measured: Parts
    measured_range_s: tuple[float, float]
    error: float
    bottleneck: str
    cached_share: float
    rounds: int


class SelectedBench:
    """One model with one selection."""

    def __init__(self, directory: Path, setup: Setup) -> None:
        self.directory = directory
        self.manifest: Manifest = load_manifest(directory)
        self._setup = setup
        policies: Mapping[str, PolicyName] = {layout: policy for policy, layout in LAYOUT_OF.items()}
        if self.manifest.layout not in policies:
            raise SystemExit(f"{directory} is in layout {self.manifest.layout}: expected {', '.join(policies)}")
        self.selection = SelectionSpec(policy=policies[self.manifest.layout], sparsity=setup.sparsity)
        self.preload = setup.preload if self.selection.policy == "topk" else "none"

    @property
    def f16_bytes(self) -> int:
        """Of all matrices, as a file of 16-bit weights holds them: what shares of a ceiling are of."""
        elements = sum(t.bundle_count * t.bundle_elements for t in self.manifest.tables)
        return elements * ELEMENT_BYTES["f16"]

    def options(self, ceiling_bytes: int | None) -> EngineOptions:
        return EngineOptions(
            model=self.directory,
            ram_bytes=ceiling_bytes,
            arena_bytes=None,
            context=CONTEXT,
            threads=self._setup.threads,
            load_mode=choose_load_mode("auto"),
            launcher="local",
            io_depth=self._setup.io_depth,
            selection=self.selection,
            quotas=choose_quotas(None, "lfu", self.selection),  # as the run has them
            preload=self.preload,  # type: ignore[arg-type]  # run checks it, before anything is predicted
            preload_share=self._setup.preload_share,
        )

    def measure_drive(self, rates: MachineRates) -> MachineRates:
        shards = [self.directory / shard.file for shard in self.manifest.shards]
        plan = FlashPlan(request_sizes=(64 << 10, 512 << 10), depths=(self._setup.io_depth,), seconds=FLASH_SECONDS)
        flash: FlashRates = FlashMeter(shards, source=self.directory.name).measure(plan, lambda _: None)
        rates = msgspec.structs.replace(rates, flash=flash)
        choices = active_setting(self.options(None), self.grounds(rates)).choices
        meter = GatherMeter(self.directory, self.manifest, choices, io_depth=self._setup.io_depth)
        return msgspec.structs.replace(rates, gathers=meter.measure(lambda _: None, GATHER_SECONDS))

    def grounds(self, rates: MachineRates) -> Grounds:
        shape = RunShape(
            prompt_tokens=PROMPT_TOKENS,
            chunk=CHUNK,
            position=PROMPT_TOKENS,
            io_depth=self._setup.io_depth,
            threads=self._setup.threads,
        )
        return Grounds(rates=rates, processes=find_processes(), shape=shape)

    def predict(self, rates: MachineRates, ceiling_bytes: int) -> ActiveRun:
        return plan_way(self.options(ceiling_bytes), self.grounds(rates))

    def run(self, ceiling_bytes: int | None, limit_bytes_per_s: float | None) -> Parts:
        """One run in a process tree of its own. Raises OSError where the drive cannot be throttled here."""
        setup, selection = self._setup, self.selection
        command = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(self.directory), "-p", PROMPT]
        command += ["--json", "-n", str(setup.tokens), "-c", str(CONTEXT), "-t", str(setup.threads)]
        command += ["--io-depth", str(setup.io_depth), "--select", selection.policy]
        command += ["--sparsity", str(selection.sparsity), "--ram", str(ceiling_bytes or "none")]
        if self.preload != "none":
            command += ["--preload", self.preload, "--preload-share", str(setup.preload_share)]
        limit = None if limit_bytes_per_s is None else int(limit_bytes_per_s)
        with LimitedGroup(Limits(None, limit, self.directory)) as group:
            if limit is not None and group.missing:
                raise OSError("; ".join(group.missing))
            wrapped, environment = group.wrap(command)
            done = subprocess.run(
                wrapped, env={**os.environ, **environment}, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise SystemExit(f"a run of {self.directory} with --ram {ceiling_bytes} failed:\n{done.stderr}")
        result = json.loads(done.stdout)
        bundles = result["bundles"]
        return Parts(
            token_s=result["decode_s_per_token"],
            stall_s=result["stall_s_per_token"],
            compute_s=result["compute_s_per_token"],
            management_s=result["management_s_per_token"],
            flash_bytes=result["bytes_read_per_token"],
            hit_rate=bundles["hits"] / bundles["used"] if bundles["used"] else 1.0,
        )


def measure_selected(
    models: Sequence[Path], ceilings: Sequence[int | float], speeds: Sequence[float | None], setup: Setup, rounds: int
) -> int:
    """Prints a row per point and a last one; returns the exit status. `ceilings`: bytes, or shares of the weights at
    16 bits each. Points take turns, as a shared machine drifts."""
    benches = {path.name: SelectedBench(path, setup) for path in models}
    points: list[Point] = []
    for name, bench in benches.items():
        bench.run(None, None)  # weighs the processes, as any earlier run has on a user's machine; compiles kernels
        for given in ceilings:
            ceiling = int(given * bench.f16_bytes) if isinstance(given, float) else given
            points += [Point(name, ceiling, speed) for speed in speeds]
    samples: dict[Point, list[Sample]] = {point: [] for point in points}
    kinds = sorted({kind for bench in benches.values() for kind in bench.manifest.matrix_kinds})
    try:
        for _ in range(rounds):
            _measure_round(benches, samples, setup, kinds)
    except OSError as error:
        sys.stderr.write(f"not measured: {error}\n")
        return 2
    rows = [_summarise(benches[point.model], point, samples[point]) for point in points]
    for row in rows:
        print(json.dumps(asdict(row)))
    mean_error = mean(abs(row.error) for row in rows)
    every = [sample for found in samples.values() for sample in found]
    print(json.dumps({"mean_absolute_error": mean_error, "points": len(rows), "fit": fit_constants(every)}))
    return 0 if mean_error <= TOLERANCE else 1


def _measure_round(
    benches: Mapping[str, SelectedBench], samples: dict[Point, list[Sample]], setup: Setup, kinds: Sequence[str]
) -> None:
    compute = measure_kernels(setup.threads, kinds)
    machine = msgspec.structs.replace(
        default_rates(setup.threads), dram_bytes_per_s=compute.dram_bytes_per_s, kernels=compute.kernels
    )
    for point, found in samples.items():
        bench = benches[point.model]
        rates = bench.measure_drive(machine)
        if point.flash_limit_bytes_per_s is not None:
            rates = cap_flash(rates, point.flash_limit_bytes_per_s)
        run = bench.predict(rates, point.ceiling_bytes)
        sample = Sample(_predicted(run), bench.run(point.ceiling_bytes, point.flash_limit_bytes_per_s), run)
        found.append(sample)
        sys.stderr.write(f"{point}\n  predicted {sample.predicted}\n  measured  {sample.measured}\n  {rates.gathers}\n")


def _predicted(run: ActiveRun) -> Parts:
    p = run.prediction
    return Parts(
        token_s=p.decode_s_per_token,
        stall_s=p.stall_s_per_token,
        compute_s=p.compute_s_per_token,
        management_s=p.management_s_per_token,
        flash_bytes=p.flash_bytes_per_token,
        hit_rate=p.hit_rate,
    )


def _summarise(bench: SelectedBench, point: Point, samples: Sequence[Sample]) -> Row:
    predicted, measured = (_median([getattr(s, side) for s in samples]) for side in ("predicted", "measured"))
    tokens = [sample.measured.token_s for sample in samples]
    return Row(
        model=point.model,
        layout=bench.manifest.layout,
        group=bench.manifest.group,
        ceiling_bytes=point.ceiling_bytes,
        flash_limit_bytes_per_s=point.flash_limit_bytes_per_s,
        selection=bench.selection.name,
        preload=bench.preload,
        predicted=predicted,
        measured=measured,
        measured_range_s=(min(tokens), max(tokens)),
        error=predicted.token_s / measured.token_s - 1,
        bottleneck=samples[-1].run.prediction.bottleneck,
        cached_share=samples[-1].run.ledger.arena.bundles.cached_share,
        rounds=len(samples),
    )


def _median(parts: Sequence[Parts]) -> Parts:
    values = {name: median(getattr(part, name) for part in parts) for name in asdict(parts[0])}
    return replace(parts[0], **values)


def fit_constants(samples: Sequence[Sample]) -> dict[str, float]:
    """What runs say of the constants of `runtime/planning/constants.py`: seconds that a visit stalls, and takes in
    compute, besides what else is predicted; and what demands and kernels take over what was measured of them alone."""
    visits = np.array([sum(use.visits for use in s.run.uses) for s in samples], np.float64)
    demand_s = np.array([s.run.prediction.demand_s + s.run.prediction.wait_s for s in samples])
    stall = fit_positive(np.stack([visits, demand_s], axis=1), np.array([s.measured.stall_s for s in samples]))
    beside = np.array([s.predicted.management_s for s in samples]) - visits * CHOICE_S
    management = np.array([s.measured.management_s for s in samples]) - beside
    kernels = median(s.measured.compute_s / s.predicted.compute_s for s in samples)
    return {
        "VISIT_S": float(stall[0]),
        "VISIT_S now": VISIT_S,
        "DEMAND_RATIO": DEMAND_RATIO * float(stall[1]),
        "DEMAND_RATIO now": DEMAND_RATIO,
        "CHOICE_S": float(median(management / visits)),
        "CHOICE_S now": CHOICE_S,
        "KERNEL_RATIO": KERNEL_RATIO * kernels,
        "KERNEL_RATIO now": KERNEL_RATIO,
    }
