"""Puts actors together with their devices. Imported by each actor's process, so every actor's own imports are local."""

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidemill.actors.actor import Actor
from tidemill.actors.compute.drafting.spec import DraftKind
from tidemill.actors.compute.selection.foresight import Foresight
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import ActorName
from tidemill.runtime.cell_spec import CellSpec
from tidemill.runtime.environment import kernel_directory
from tidemill.runtime.lab import Lab
from tidemill.runtime.memory import release_code, release_freed_memory
from tidemill.storage.bundle_plan import bundle_tables
from tidemill.storage.devices.native.order import GatherFunction
from tidemill.storage.draft_model import load_cell_manifest
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

if TYPE_CHECKING:
    from tidemill.actors.compute.decoder import Decoder
    from tidemill.actors.compute.drafting.draft_decoder import DraftDecoder
    from tidemill.actors.compute.drafting.drafter import Drafter
    from tidemill.actors.compute.placement import Placement
    from tidemill.storage.devices.device import FlashDevice


def prepare_actor(
    name: ActorName,
    model_directories: Sequence[str],
    threads: int,
    *,
    selects: bool = False,
    draft_planes: bool = False,
    consumes: bool = False,
) -> None:
    """Import and load what the actor will need, so that the process weighs what it will weigh when it is measured."""
    manifests = [load_manifest(Path(directory)) for directory in model_directories]
    match name:
        case ActorName.PREDICTOR:
            pass
        case ActorName.ARENA:
            pass
        case ActorName.READER:
            find_gather_code(manifests[0])
        case ActorName.COMPUTE if consumes:
            import tidemill.runtime.stress.pipeline.timed_decoder  # noqa: F401
        case ActorName.COMPUTE:
            from tidemill.actors.compute.kernels.warm_up import warm_up

            for manifest in manifests:
                warm_up(manifest, threads=threads, selects=selects, draft_planes=draft_planes)
            release_freed_memory()
            release_code("libllvmlite")  # kernels are loaded: the compiler has no more to do
        case _:
            raise ValueError(f"no actor is called {name!r}")


def build_actor(
    name: ActorName,
    spec: CellSpec,
    arena: npt.NDArray[np.uint8] | None,
    counters: Counters,
    lab: Lab | None = None,
) -> Actor:
    """The actor of one name with its devices, ready to start. `arena` is the region's bytes, for reader and compute."""
    draft_model = spec.compute.draft_model
    manifest = load_cell_manifest(Path(spec.model_directory), Path(draft_model.directory) if draft_model else None)
    match name:
        case ActorName.PREDICTOR:
            from tidemill.actors.predictor.actor import PredictorActor

            return PredictorActor(spec.predictor)
        case ActorName.ARENA:
            from tidemill.actors.arena.actor import ArenaActor

            return ArenaActor(spec.arena, manifest, counters)
        case ActorName.READER:
            return _build_reader(spec, manifest, arena, counters)
        case ActorName.COMPUTE:
            return _build_compute(spec, manifest, arena, counters, lab)
        case _:
            raise ValueError(f"no actor is called {name!r}")


def find_gather_code(manifest: Manifest) -> GatherFunction | None:
    """What reads single bundles, if the model has such."""
    return _load_gather_code(kernel_directory()) if bundle_tables(manifest) else None


@cache
def _load_gather_code(directory: Path) -> GatherFunction:
    from tidemill.storage.devices.native.code import load_code

    return load_code(directory).gather


def _build_reader(spec: CellSpec, manifest: Manifest, arena: npt.NDArray[np.uint8] | None, counters: Counters) -> Actor:
    from tidemill.actors.reader.actor import ReaderActor
    from tidemill.storage.devices.alarm import make_alarm

    assert arena is not None
    device = _build_device(spec, manifest, arena, counters)
    try:
        return ReaderActor(spec.reader, manifest, device, counters, make_alarm())
    except BaseException:
        device.close()
        raise


def _build_device(
    spec: CellSpec, manifest: Manifest, arena: npt.NDArray[np.uint8], counters: Counters
) -> "FlashDevice":
    from tidemill.storage.devices.thread_pool import ThreadPoolDevice

    paths = [Path(spec.model_directory) / shard.file for shard in manifest.shards]
    device = ThreadPoolDevice(
        paths, arena, depth=spec.io_depth, load_mode=spec.load_mode, code=find_gather_code(manifest)
    )
    if spec.device is None:
        return device
    from tidemill.storage.devices.emulated.device import Tally, emulate

    tallies = counters[Counter.EMULATED_LATE_READS :][: len(Tally)]
    return emulate(device, spec.device, paths, arena, depth=spec.io_depth, tallies=tallies)


def _build_compute(
    spec: CellSpec, manifest: Manifest, arena: npt.NDArray[np.uint8] | None, counters: Counters, lab: Lab | None
) -> Actor:
    from tidemill.actors.compute.actor import ComputeActor
    from tidemill.actors.compute.decoder import Decoder
    from tidemill.actors.compute.evaluation import Evaluation
    from tidemill.actors.compute.masking import Masking
    from tidemill.actors.compute.placement import Placement

    assert arena is not None
    config = spec.compute
    placement = Placement(len(manifest.extents))
    if spec.consumer is not None:
        from tidemill.runtime.stress.pipeline.timed_decoder import TimedDecoder

        timed = TimedDecoder(spec.consumer, manifest, arena, placement, config.plan)
        return ComputeActor(config, timed.as_decoder(), placement, counters, time.perf_counter_ns)
    policies = _policies(spec, lab)
    masking = evaluation = None
    if config.window:
        masking = Masking(manifest.decoder, config.chunk, lab.tap if lab else None)
        evaluation = Evaluation(manifest, policies, config.window)
    policy = foresight = None
    if config.decode_selection is not None:
        policy = _policy(spec, config.decode_selection)
        foresight = _foresight(spec, config.decode_selection, policy)
    decoder = Decoder(
        manifest,
        arena,
        placement,
        context=config.context,
        chunk=config.chunk,
        threads=config.threads,
        row_slots=config.plan.row_slots,
        masking=masking,
        foresight=foresight,
    )
    drafter = _build_drafter(spec, manifest, arena, placement, decoder)
    return ComputeActor(config, decoder, placement, counters, time.perf_counter_ns, evaluation, policy, drafter)


def _build_drafter(
    spec: CellSpec, manifest: Manifest, arena: npt.NDArray[np.uint8], placement: "Placement", decoder: "Decoder"
) -> "Drafter | None":
    from tidemill.actors.compute.drafting.coarse_draft import CoarseDraft
    from tidemill.actors.compute.drafting.drafter import Drafter, DraftingModel
    from tidemill.actors.compute.drafting.model_draft import ModelDraft

    config = spec.compute
    if not config.draft.kinds:
        return None
    models: dict[DraftKind, DraftingModel] = {}
    if "planes" in config.draft.kinds:
        models["planes"] = CoarseDraft(decoder)
    draft_decoder = build_draft_decoder(spec, arena, placement)
    if draft_decoder is not None:
        models["model"] = ModelDraft(draft_decoder, chunk=config.chunk)
    return Drafter(
        config.draft,
        models,
        context=config.context,
        ends=manifest.decoder.eos_token_ids,
        clock_ns=time.perf_counter_ns,
    )


def build_draft_decoder(spec: CellSpec, arena: npt.NDArray[np.uint8], placement: "Placement") -> "DraftDecoder | None":
    """Of the draft model, if the cell has one. `placement`: of all the cell's extents."""
    from tidemill.actors.compute.drafting.draft_decoder import DraftDecoder

    draft, config = spec.compute.draft_model, spec.compute
    if draft is None:
        return None
    manifest = load_manifest(Path(draft.directory))
    part = placement.part(draft.first_extent, draft.first_extent + len(manifest.extents))
    return DraftDecoder(manifest, arena, part, context=config.context, chunk=config.chunk, threads=config.threads)


def _policies(spec: CellSpec, lab: Lab | None) -> list[SelectionPolicy]:
    """Those that the cell was opened with; the lab's come first."""
    policies = list(lab.policies) if lab else []
    return [*policies, *(_policy(spec, selection) for selection in spec.compute.selections)]


def _foresight(spec: CellSpec, selection: SelectionSpec, policy: SelectionPolicy) -> Foresight | None:
    from tidemill.runtime.calibration.calibration_file import CalibrationFile
    from tidemill.runtime.calibration.policies import build_foresight

    if spec.predictor.preload.kind != "look-ahead":
        return None
    return build_foresight(CalibrationFile.open(Path(spec.model_directory)), selection, policy)


def _policy(spec: CellSpec, selection: SelectionSpec) -> SelectionPolicy:
    from tidemill.runtime.calibration.calibration_file import CalibrationFile
    from tidemill.runtime.calibration.policies import build_policy

    return build_policy(CalibrationFile.open(Path(spec.model_directory)), selection)
