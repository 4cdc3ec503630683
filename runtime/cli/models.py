"""The verbs about models on disk: pull, list, info, rm, clean."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from tidemill.runtime.catalog import describe_model, list_models, models_directory, remove_model, resolve_model
from tidemill.runtime.cli.progress import BytesProgress, stderr_console
from tidemill.runtime.llm import DEFAULT_CONTEXT, DEFAULT_IO_DEPTH
from tidemill.runtime.options import EngineOptions, check_options, choose_load_mode, default_threads
from tidemill.runtime.planes_memory import PlanesMemory, find_planes_memory
from tidemill.runtime.planning.constants import DEFAULT_PROCESSES
from tidemill.runtime.run_directory import clean_orphans
from tidemill.runtime.sizes import format_size
from tidemill.runtime.tuning.saved_processes import find_processes
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest


def pull_command(name: str, revision: str | None, codec: str, offline: bool) -> None:
    from tidemill.runtime.pull import pull

    with BytesProgress(name) as progress:
        directory = pull(
            name, revision=revision, offline=offline, codec=codec, on_status=progress.say, on_progress=progress.update
        )
    tell_written(directory, load_manifest(directory), "ready")


def tell_written(directory: Path, manifest: Manifest, what: str) -> None:
    size = sum(shard.bytes for shard in manifest.shards)
    note = f"; {manifest.source.note}" if manifest.source.note else ""
    stderr_console().print(f"{directory}: {what}, {format_size(size)} in {len(manifest.shards)} shards{note}")


def show_models(as_json: bool) -> None:
    models = list_models()
    if as_json:
        sys.stdout.write(json.dumps([asdict(model) for model in models]) + "\n")
        return
    if not models:
        stderr_console().print(f"no models in {models_directory()}; get one: tidemill pull smollm2-135m")
        return
    table = Table("name", "size", "family", "source", box=None, pad_edge=False)
    for model in models:
        table.add_row(model.name, format_size(model.bytes), model.family or "-", model.problem or model.source or "-")
    Console().print(table)


def show_info(model: str, as_json: bool) -> None:
    directory = resolve_model(model)
    d, planes = describe_model(directory), _planes_memory(directory)
    if as_json:
        sys.stdout.write(json.dumps({**asdict(d), "planes": None if planes is None else asdict(planes)}) + "\n")
        return
    console = Console(highlight=False)
    console.print(f"{d.path}\n{d.source}" + (f"\n{d.note}" if d.note else ""))
    console.print(
        f"{d.family}, {d.parameters / 1e6:.1f} M parameters, {d.layers} layers, hidden {d.hidden_size}, heads "
        f"{d.heads} "
        f"(kv {d.kv_heads}), ff {d.ff_size}, vocabulary {d.vocab_size}, context {d.max_context}, "
        f"{'tied' if d.tied_head else 'untied'} head"
    )
    console.print(f"layout {d.layout}" + (f", groups of {d.group} layers" if d.group > 1 else ""))
    console.print(
        f"{format_size(d.decoded_bytes)} in the arena, {format_size(d.stored_bytes)} on flash, {d.extents} extents in "
        f"{d.shards} shards; "
        f"a token computes with {format_size(d.bytes_per_token)}"
    )
    if planes is not None:
        console.print(
            f"--draft planes needs --ram {planes.ceiling_bytes >> 20}MiB at a context of {planes.context}: "
            f"{format_size(planes.plane_0_bytes)} of plane 0, a ring and all else; the other "
            f"{format_size(planes.plane_1_bytes)} may stream"
        )
    table = Table(
        "table",
        "layout",
        "element",
        "codec",
        "count",
        "bundles",
        "bundle",
        "in the arena",
        "on flash, per plane",
        "bytes a weight",
        "exceptions",
        "room a bundle",
        box=None,
        pad_edge=False,
    )
    for group in d.tables:
        stored = " + ".join(format_size(size) for size in group.stored_bytes_per_plane)
        sizes = (format_size(group.bundle_bytes), format_size(group.decoded_bytes), stored)
        table.add_row(
            group.role,
            group.layout,
            group.element,
            group.codec,
            str(group.tables),
            str(group.bundles),
            *sizes,
            f"{group.bits_per_weight / 8:.3f}",
            "" if group.exceptions is None else str(group.exceptions),
            "" if group.capacity is None else str(group.capacity),
        )
    console.print(table)


def _planes_memory(directory: Path) -> PlanesMemory | None:
    """At the default context, for processes as they were last weighed here."""
    options = EngineOptions(
        model=directory,
        ram_bytes=None,
        arena_bytes=None,
        context=DEFAULT_CONTEXT,
        threads=default_threads(),
        load_mode=choose_load_mode("auto"),
        launcher="local",
        io_depth=DEFAULT_IO_DEPTH,
    )
    options = check_options(options, explicit_context=False)
    return find_planes_memory(load_manifest(directory), options, find_processes() or DEFAULT_PROCESSES)


def remove_command(name: str, yes: bool) -> None:
    if not yes:
        typer.confirm(f"Delete {models_directory() / name}?", abort=True)
    stderr_console().print(f"{name} removed, {format_size(remove_model(name))} freed")


def clean_command() -> None:
    orphans = clean_orphans()
    for orphan in orphans:
        owner = f"process {orphan.process_id}, which is gone" if orphan.process_id is not None else "nobody known"
        stderr_console().print(f"removed {orphan.path} of {owner}")
    if not orphans:
        stderr_console().print("nothing was left behind")
