"""Opens one cell: kernels compiled, processes started and measured, ledger divided, actors given their parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidemill.actors.compute.activations import activation_bytes
from tidemill.actors.compute.bundle_buffers import bundle_buffer_bytes
from tidemill.actors.compute.evaluation_bytes import evaluation_bytes
from tidemill.actors.compute.kv_cache import kv_cache_bytes
from tidemill.actors.counters import Counter
from tidemill.actors.wiring import LINKS
from tidemill.runtime.calibration.record import CALIBRATION_FILE
from tidemill.runtime.cell_plan import CHUNK, GATHER_BYTES_MAX, plan_cell
from tidemill.runtime.cell_spec import CellSpec
from tidemill.runtime.draft_options import DraftChoice
from tidemill.runtime.draft_plan import draft_lines, plan_drafts
from tidemill.runtime.environment import use_kernel_settings
from tidemill.runtime.events import StatusText
from tidemill.runtime.kernel_cache import ensure_kernels
from tidemill.runtime.lab import Lab
from tidemill.runtime.launchers.launcher import Launcher
from tidemill.runtime.ledger import Demands, Ledger, check_available
from tidemill.runtime.memory import PeakSampler, available_bytes, process_memory, release_freed_memory
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.start_times import StartClock
from tidemill.runtime.tuning.saved_processes import remember_processes
from tidemill.storage.arena_plan import has_planes
from tidemill.storage.bundle_plan import PRELOAD_SHARE, READ_AHEAD_SHARE
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.devices.huge_pages import round_up
from tidemill.storage.draft_model import DraftModel, load_cell_manifest
from tidemill.storage.manifest import Extent, Manifest
from tidemill.storage.manifest_file import load_manifest

# Of each single bundle: its residence and use (17 to 21), its slot and the read into it (14), what looking at it takes.
RESIDENCY_BYTES = 40
UNMEASURED_PROCESS_BYTES = 120 << 20


@dataclass(frozen=True, slots=True)
class Cell:
    """The running parts. Closing stops the actors, ends their processes and removes every region."""

    manifest: Manifest
    ledger: Ledger
    spec: CellSpec
    launcher: Launcher
    sampler: PeakSampler
    start_s: Mapping[str, float]  # what opening took, by phase
    draft: DraftChoice  # as asked for; `spec` says what came of it

    def close(self) -> None:
        try:
            self.sampler.stop()
        finally:
            self.launcher.close()


def open_cell(options: EngineOptions, on_event: Callable[[StatusText], None], lab: Lab | None = None) -> Cell:
    """A `lab` needs the in-process launcher.

    Raises StorageError, CeilingTooSmallError, ActorDiedError; leaves nothing behind when it does.
    """
    clock = StartClock()
    manifest, draft_model = _load_manifests(options)
    popularity = _read_popularity(manifest, options)
    selects = options.window > 0
    draft_planes = options.draft.kind in ("auto", "planes") and has_planes(manifest)
    models = [options.model, *([options.draft.model] if options.draft.model else [])]
    for model in models:
        ensure_kernels(
            model,
            load_manifest(model),
            threads=options.threads,
            selects=selects,
            draft_planes=draft_planes,
            on_event=on_event,
        )
    clock.end("kernel cache")
    launcher = _build_launcher(options, lab)
    try:
        launcher.prepare(
            [str(model) for model in models], threads=options.threads, selects=selects, draft_planes=draft_planes
        )
        clock.end("processes")
        processes = measure_processes(launcher)
        if options.launcher == "local":
            remember_processes(processes)  # for `tidemill plan`, which starts none
        demands = measure_demands(manifest, options, processes, lab)
        plan = plan_drafts(
            manifest,
            demands,
            options.draft,
            ceiling_bytes=options.ram_bytes,
            arena_bytes=options.arena_bytes,
            resident_from=draft_model.first_extent if draft_model else None,
        )
        check_available(plan.ledger, demands, available_bytes())
        spec = plan_cell(manifest, options, plan, popularity, draft_model)
        sampler = PeakSampler(launcher.process_ids, lambda: kv_bytes_touched(manifest, launcher))
        clock.end("plan")
        launcher.start(spec)
        sampler.start()
        clock.end("actors")
    except BaseException:
        launcher.close()
        raise
    return Cell(manifest, plan.ledger, spec, launcher, sampler, clock.phases, options.draft.kind)


def _load_manifests(options: EngineOptions) -> tuple[Manifest, DraftModel | None]:
    """Of the cell, and where in it a draft model begins."""
    draft = options.draft.model
    if draft is None:
        return load_manifest(options.model), None
    first_extent = len(load_manifest(options.model).extents)
    manifest = load_cell_manifest(options.model, draft)
    return manifest, DraftModel(directory=str(draft), first_extent=first_extent)


def _read_popularity(manifest: Manifest, options: EngineOptions) -> Mapping[int, bytes]:
    """Before processes are measured: this one then weighs what reading Arrow files takes."""
    if options.hot_set is None:
        return {}
    from tidemill.runtime.hot_set import read_popularity

    return read_popularity(manifest, options.hot_set)


def measure_processes(launcher: Launcher) -> dict[str, int]:
    """Proportional set size of every process now. Where the system does not tell, a cautious figure per process."""
    release_freed_memory()  # reading a tokenizer frees a quarter of what it took
    sizes = {name: process_memory(process_id) for name, process_id in launcher.process_ids().items()}
    return {name: size.total_bytes if size else UNMEASURED_PROCESS_BYTES for name, size in sizes.items()}


def kv_bytes_touched(manifest: Manifest, launcher: Launcher) -> int:
    """KV cache that positions have been written to so far; an upper bound of what the sampler should leave out."""
    positions = int(launcher.counters[Counter.KV_POSITIONS])
    return 2 * manifest.decoder.layer_count * manifest.decoder.kv_size * 4 * positions


def measure_demands(
    manifest: Manifest, options: EngineOptions, processes: dict[str, int], lab: Lab | None = None
) -> Demands:
    spec = manifest.decoder
    staged = options.load_mode == "staged"
    bounced = [e.stored_bytes for e in manifest.extents if staged or _is_compressed(manifest, e.table)]
    if manifest.layout != "dense":
        bounced = [*(e.stored_bytes for e in _extents_read_whole(manifest) if staged), GATHER_BYTES_MAX]
    return Demands(
        processes=processes,
        kv_bytes=kv_cache_bytes(spec, options.context),
        activation_bytes=activation_bytes(manifest, CHUNK, options.threads, options.context)
        + bundle_buffer_bytes(manifest, CHUNK, options.threads)
        + _evaluation_bytes(manifest, options, lab)
        + _predictor_bytes(options),
        link_bytes=sum(link.capacity_bytes for link in LINKS),
        bounce_bytes=options.io_depth * round_up(max(bounced, default=0)),
        drafts=draft_lines(manifest, options, chunk=CHUNK),
        preload_share=READ_AHEAD_SHARE if options.preload == "none" else PRELOAD_SHARE,
        residency_bytes=RESIDENCY_BYTES * sum(t.bundle_count for t in manifest.tables if t.is_self_contained),
    )


def _evaluation_bytes(manifest: Manifest, options: EngineOptions, lab: Lab | None) -> int:
    """What evaluating text takes beside decoding: buffers, and the calibration's arrays in the worst case."""
    if not options.window:
        return 0
    calibration = options.model / CALIBRATION_FILE
    arrays = sum(s.policy == "neuron" for s in options.selections) * (
        calibration.stat().st_size if calibration.is_file() else 0
    )
    policies = len(options.selections) + (len(lab.policies) if lab else 0)
    return evaluation_bytes(manifest, policies, options.window, CHUNK) + arrays + (lab.bytes if lab else 0)


def _predictor_bytes(options: EngineOptions) -> int:
    """Of what decoding selects, or looks ahead, by: most of a calibration are its predictors."""
    calibration = options.model / CALIBRATION_FILE
    predicts = options.selection is not None and (
        options.selection.policy == "neuron" or options.preload == "look-ahead"
    )
    return calibration.stat().st_size if predicts and calibration.is_file() else 0


def _extents_read_whole(manifest: Manifest) -> Sequence[Extent]:
    return [extent for extent in manifest.extents if not manifest.tables[extent.table].is_self_contained]


def _is_compressed(manifest: Manifest, table: int) -> bool:
    return not get_codec(manifest.tables[table].planes[0].codec).is_identity


def _build_launcher(options: EngineOptions, lab: Lab | None) -> Launcher:
    if options.launcher == "in-process":
        use_kernel_settings(options.threads)  # before this process imports numba
        from tidemill.runtime.launchers.in_process import InProcessLauncher

        return InProcessLauncher(lab=lab)
    if lab is not None:
        raise ValueError(f"launcher {options.launcher} runs compute in another process; use in-process")
    from tidemill.runtime.launchers.local import LocalLauncher

    return LocalLauncher()
