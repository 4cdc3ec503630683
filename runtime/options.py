"""What an engine is opened with: validated values, no defaults (those live at the public entry points)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from tidemill.actors.arena.residency.choose_policy import (
    ADAPTIVE_KINDS,
    QUOTA_KINDS,
    RESIDENCY_KINDS,
    QuotaKind,
    ResidencyKind,
)
from tidemill.actors.compute.selection.operators import PolicyName
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.predictor.config import PRELOAD_KINDS, PreloadKind
from tidemill.runtime.draft_options import DraftOptions, check_draft
from tidemill.runtime.restarts import MOST_RESTARTS
from tidemill.storage.devices.device import LOAD_MODES, LoadMode
from tidemill.storage.devices.emulated.spec import Emulation
from tidemill.storage.devices.huge_pages import is_shared_memory_scattered
from tidemill.storage.manifest import ModelLayout
from tidemill.storage.manifest_file import load_manifest

LauncherName = Literal["local", "in-process"]
IO_DEPTH_MAX = 64
_OF_NEURONS: tuple[PreloadKind, ...] = ("look-ahead", "previous-token", "popularity")
PRELOADS_OF: Mapping[PolicyName, tuple[PreloadKind, ...]] = MappingProxyType(
    {
        "topk": ("scaled", "cross-layer", "previous-token", "popularity"),
        "gate": _OF_NEURONS,
        "neuron": _OF_NEURONS,
    }
)

LAYOUT_OF: Mapping[PolicyName, ModelLayout] = MappingProxyType(
    {"topk": "input-channel", "gate": "gate-first", "neuron": "neuron"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """`ram_bytes` None: no ceiling, the model is resident. `arena_bytes` None: what the ceiling leaves."""

    model: Path
    ram_bytes: int | None
    arena_bytes: int | None
    context: int
    threads: int
    load_mode: LoadMode
    launcher: LauncherName
    io_depth: int
    device: Emulation | None = None  # None: the drive as it is
    verify_reads: bool = True
    selection: SelectionSpec | None = None  # lossy: what decoded positions are computed with
    residency: ResidencyKind = "lfu"  # of single bundles
    quotas: QuotaKind = "fixed"  # adaptive: layers may give room to one another while a sequence is decoded
    hot_set: Path | None = None  # a trace of other text: what residency `hot-set` keeps
    preload: PreloadKind = "none"  # of the next layer group
    preload_share: float = 0.5  # of the channels that an input is computed with
    draft: DraftOptions = field(default_factory=DraftOptions)
    traces: bool = False  # tells with each decoded position what it selected
    selections: tuple[SelectionSpec, ...] = ()  # lossy variants that windows of text are evaluated under
    restarts: int = 0  # in a row, of a cell that lost an actor
    window: int = 0  # most tokens of such a window; 0: the cell evaluates none


def choose_load_mode(wanted: LoadMode | Literal["auto"]) -> LoadMode:
    """auto: past the page cache; by way of huge pages where the arena's own pages are scattered (decision 0010)."""
    if wanted != "auto":
        return wanted
    return "staged" if is_shared_memory_scattered() else "direct"


def choose_quotas(wanted: QuotaKind | None, residency: ResidencyKind, selection: SelectionSpec | None) -> QuotaKind:
    """None: adaptive where residency counts uses of a selection (docs/decisions/0013)."""
    if wanted is not None:
        return wanted
    return "adaptive" if selection is not None and residency in ADAPTIVE_KINDS else "fixed"


def choose_restarts(wanted: bool | None, selection: SelectionSpec | None) -> int:
    """How often in a row; None: where decoding is exact. Raises ValueError."""
    if wanted and selection is not None:
        raise ValueError(
            "--restart computes the text so far again as a prompt, with all weights; --select decoded it with a part "
            "of them: what follows would differ. Give one of the two"
        )
    return 0 if wanted is False or selection is not None else MOST_RESTARTS


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_options(options: EngineOptions, *, explicit_context: bool) -> EngineOptions:
    """The options, with a default context cut to the model's, and without drafts where "auto" finds a selection. Raises
    ValueError naming the value and what is accepted."""
    manifest = load_manifest(options.model)
    max_context = manifest.decoder.max_context
    if not explicit_context:
        options = replace(options, context=min(options.context, max_context))
    checks = [
        ("context", options.context, 1 <= options.context <= max_context, f"1 to the model's {max_context}"),
        (
            "threads",
            options.threads,
            1 <= options.threads <= default_threads(),
            f"1 to the {default_threads()} cores here",
        ),
        ("io_depth", options.io_depth, 1 <= options.io_depth <= IO_DEPTH_MAX, f"1 to {IO_DEPTH_MAX}"),
        ("load_mode", options.load_mode, options.load_mode in LOAD_MODES, f"auto, {', '.join(LOAD_MODES)}"),
        ("launcher", options.launcher, options.launcher in ("local", "in-process"), "local or in-process"),
        ("residency", options.residency, options.residency in RESIDENCY_KINDS, ", ".join(RESIDENCY_KINDS)),
        ("quotas", options.quotas, options.quotas in QUOTA_KINDS, ", ".join(QUOTA_KINDS)),
        ("preload", options.preload, options.preload in PRELOAD_KINDS, ", ".join(PRELOAD_KINDS)),
        ("preload_share", options.preload_share, 0 < options.preload_share <= 1, "more than 0, at most 1"),
        ("ram", options.ram_bytes, options.ram_bytes is None or options.ram_bytes > 0, "more than 0 bytes"),
        ("arena", options.arena_bytes, options.arena_bytes is None or options.arena_bytes > 0, "more than 0 bytes"),
    ]
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"{name} is {value}, accepted: {accepted}")
    if options.device is not None and any(rule.kind == "enospc" for rule in options.device.faults):
        raise ValueError(f"device {options.device.text!r}: enospc is of writers, and this only reads")
    _check_lossy(options, manifest.layout)
    selects = options.selection is not None
    check_draft(options.draft, options.model, manifest, context=options.context, selects=selects)
    return replace(options, draft=DraftOptions()) if selects and options.draft.kind == "auto" else options


def _check_lossy(options: EngineOptions, layout: ModelLayout) -> None:
    """Nothing that was asked for may be without effect."""
    policy = options.selection.policy if options.selection is not None else None
    if options.residency != "lfu" and policy is None:
        raise ValueError(
            f"residency is {options.residency}, which needs a selection: without one nothing is cached by it"
        )
    if options.quotas == "adaptive" and (policy is None or options.residency not in ADAPTIVE_KINDS):
        raise ValueError(
            "quotas are adaptive, which needs a selection and a residency that counts uses: --residency "
            f"{', '.join(ADAPTIVE_KINDS)}, got {options.residency} and the selection {policy or 'none'}"
        )
    if (options.residency == "hot-set") != (options.hot_set is not None):
        raise ValueError(
            f"residency is {options.residency} and the hot set {options.hot_set or 'none'}: --residency hot-set and "
            "--hot-set TRACE go together (run, chat, trace)"
        )
    if options.preload != "none" and (policy is None or options.preload not in PRELOADS_OF[policy]):
        fitting = ", ".join(name for name, kinds in PRELOADS_OF.items() if options.preload in kinds)
        raise ValueError(f"preload is {options.preload}, which needs the selection {fitting}; got {policy or 'none'}")
    if options.traces and policy is None:
        raise ValueError("a trace records what a lossy run computes with: choose it with --select and --sparsity")
    for selection in options.selections:
        if layout not in ("dense", LAYOUT_OF[selection.policy]):
            raise ValueError(
                f"{options.model} is in layout {layout}; {selection.policy} is evaluated in layout "
                f"{LAYOUT_OF[selection.policy]}, or dense, of the same source"
            )
    if options.selection is not None and LAYOUT_OF[options.selection.policy] != layout:
        raise ValueError(
            f"--select {options.selection.policy} reads what it computes with bundle by bundle, which needs a model "
            f"in layout {LAYOUT_OF[options.selection.policy]}; {options.model} is in layout {layout}. "
            f"Convert it: tidemill convert SOURCE {options.model}-{options.selection.policy} "
            f"--layout {LAYOUT_OF[options.selection.policy]}"
        )
