"""The MUSTs of docs/format.md as code: a manifest that passes cannot make a reader leave its files, its memory or its
shapes."""

import re
from collections.abc import Iterator
from pathlib import Path

from tidemill.storage.codecs.registry import CODECS
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest import ALIGNMENT_BYTES, MODEL_LAYER, Extent, Layout, Manifest, Role, Table

TABLES_MAX = 1 << 16
EXTENTS_MAX = 1 << 22
SHARDS_MAX = 1 << 16
EXTENT_BYTES_MAX = 1 << 30
SIZE_MAX = 1 << 24  # of any dimension of a decoder
LAYERS_MAX = 4096
SHARD_NAME = re.compile(r"shards/[A-Za-z0-9_][A-Za-z0-9_.-]*\.arrow")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
CHECKSUM = re.compile(r"[0-9a-f]{16}")

Shape = tuple[Layout, int, int]  # layout, bundle count, elements per bundle


def check_manifest(manifest: Manifest, path: Path) -> None:
    """Raises FormatError that names the file, the place and what was expected."""
    try:
        _check_counts(manifest)
        _check_decoder(manifest.decoder)
        _check_names(manifest)
        _check_tables(manifest)
        _check_extents(manifest)
        _check_overlaps(manifest)
    except FormatError as error:
        raise FormatError(f"{path}: {error}; convert or pull the model again") from None


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise FormatError(what)


def _check_counts(manifest: Manifest) -> None:
    for name, count, most in (
        ("tables", len(manifest.tables), TABLES_MAX),
        ("extents", len(manifest.extents), EXTENTS_MAX),
        ("shards", len(manifest.shards), SHARDS_MAX),
    ):
        _require(0 < count <= most, f"{count} {name}, expected 1..{most}")


def _check_decoder(spec: DecoderSpec) -> None:
    sizes = {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "head_count": spec.head_count,
        "kv_head_count": spec.kv_head_count,
        "head_size": spec.head_size,
        "ff_size": spec.ff_size,
        "max_context": spec.max_context,
    }
    for name, size in sizes.items():
        _require(0 < size <= SIZE_MAX, f"decoder.{name} is {size}, expected 1..{SIZE_MAX}")
    _require(0 < spec.layer_count <= LAYERS_MAX, f"decoder.layer_count is {spec.layer_count}, expected 1..{LAYERS_MAX}")
    _require(
        spec.head_count % spec.kv_head_count == 0, f"{spec.head_count} heads do not share {spec.kv_head_count} kv heads"
    )
    _require(spec.head_size % 2 == 0, f"decoder.head_size is {spec.head_size}, expected an even number")
    _require(
        len(spec.windows) == spec.layer_count and min(spec.windows) >= 0,
        f"decoder.windows has {len(spec.windows)} entries, expected one of 0 or more for each of {spec.layer_count} "
        "layers",
    )
    _require(0 <= spec.norm_eps < 1, f"decoder.norm_eps is {spec.norm_eps}, expected 0..1")
    _require(
        all(rope.theta > 0 for rope in (spec.rope, spec.local_rope or spec.rope)), "decoder rope theta must be positive"
    )


def _check_names(manifest: Manifest) -> None:
    for shard in manifest.shards:
        _require(
            SHARD_NAME.fullmatch(shard.file) is not None and ".." not in shard.file,
            f"shard name {shard.file!r} is not of the form shards/NAME.arrow",
        )
        _require(CHECKSUM.fullmatch(shard.checksum) is not None, f"shard {shard.file}: bad checksum {shard.checksum!r}")
    names = [shard.file for shard in manifest.shards]
    _require(len(set(names)) == len(names), "two shards have the same name")
    for file in manifest.files:
        _require(FILE_NAME.fullmatch(file.file) is not None, f"file name {file.file!r} is not a plain name")


def expected_tables(spec: DecoderSpec) -> Iterator[tuple[Role, int, Shape]]:
    """Every table that a decoder needs, in compute order (permutations are apart)."""
    hidden = spec.hidden_size
    per_layer: list[tuple[Role, int, bool]] = [
        ("attn_norm", hidden, True),
        ("qkv_bias", spec.qkv_size, spec.qkv_bias),
        ("q_norm", spec.head_size, spec.qk_norm),
        ("k_norm", spec.head_size, spec.qk_norm),
        ("out_bias", hidden, spec.out_bias),
        ("attn_post_norm", hidden, spec.post_norms),
        ("mlp_norm", hidden, True),
        ("mlp_post_norm", hidden, spec.post_norms),
    ]
    for layer in range(spec.layer_count):
        for role, size, present in per_layer:
            if present:
                yield role, layer, ("vector", 1, size)
    yield "final_norm", MODEL_LAYER, ("vector", 1, hidden)
    embed: Shape = ("output-row", spec.vocab_size, hidden)
    if not spec.tied_head:
        yield "embed", MODEL_LAYER, embed
    for layer in range(spec.layer_count):
        yield "attn_qkv", layer, ("output-row", spec.qkv_size, hidden)
        yield "attn_out", layer, ("output-row", hidden, spec.q_size)
        yield "mlp", layer, ("neuron", spec.ff_size, 3 * hidden)
    yield ("embed" if spec.tied_head else "head"), MODEL_LAYER, embed


def _check_tables(manifest: Manifest) -> None:
    expected = list(expected_tables(manifest.decoder))
    present = [table for table in manifest.tables if table.role != "permutation"]
    _require(len(present) == len(expected), f"{len(present)} tables, the decoder needs {len(expected)}")
    for table, (role, layer, shape) in zip(present, expected, strict=True):
        got = (table.role, table.layer, (table.layout, table.bundle_count, table.bundle_elements))
        _require(got == (role, layer, shape), f"a table is {got}, expected {(role, layer, shape)} at its place")
    for index, table in enumerate(manifest.tables):
        _check_table(manifest, index, table)


def _check_table(manifest: Manifest, index: int, table: Table) -> None:
    where = f"table {index} ({table.role} of layer {table.layer})"
    element_ok = (table.element == "u32") == (table.role == "permutation")
    _require(element_ok, f"{where}: element {table.element} does not go with its role")
    if table.role == "permutation":
        _require(table.layout == "permutation" and table.bundle_count == 1, f"{where}: a permutation is one bundle")
        _require(0 < table.bundle_elements <= SIZE_MAX, f"{where}: {table.bundle_elements} elements")
    _require(len(table.planes) > 0, f"{where}: no planes")
    _require(
        len({plane.codec for plane in table.planes}) == 1 and table.planes[0].codec in CODECS,
        f"{where}: codecs {[plane.codec for plane in table.planes]}, known are {', '.join(CODECS)}, one a table",
    )
    codec = CODECS[table.planes[0].codec]
    planes = tuple(codec.plane_bytes(table.element, table.bundle_bytes))
    got = tuple(plane.bundle_bytes for plane in table.planes)
    _require(got == planes, f"{where}: planes of {got} bytes a bundle, expected {planes}")
    blocks_ok = table.checksum_block_bytes == 0 or (
        codec.name == "raw" and table.checksum_block_bytes > 0 and table.checksum_block_bytes % ALIGNMENT_BYTES == 0
    )
    _require(
        blocks_ok,
        f"{where}: checksum blocks of {table.checksum_block_bytes} bytes, expected 0 or a multiple of 4096 on raw",
    )
    if table.permutation is not None:
        target = manifest.tables[table.permutation] if 0 <= table.permutation < len(manifest.tables) else None
        fits = target is not None and target.role == "permutation" and target.bundle_elements == table.bundle_count
        _require(fits and table.layout == "neuron", f"{where}: permutation {table.permutation} does not belong to it")


def _check_extents(manifest: Manifest) -> None:
    """Every table's bundles exactly once per plane, tables and bundles in order, every extent inside its shard."""
    covered = [[0] * len(table.planes) for table in manifest.tables]
    last_table = 0
    for index, extent in enumerate(manifest.extents):
        where = f"extent {index}"
        _require(0 <= extent.table < len(manifest.tables), f"{where}: table {extent.table} does not exist")
        table = manifest.tables[extent.table]
        _require(0 <= extent.plane < len(table.planes), f"{where}: plane {extent.plane} does not exist")
        _require(last_table <= extent.table, f"{where}: table {extent.table} comes after table {last_table}")
        last_table = extent.table
        done = covered[extent.table][extent.plane]
        _require(
            extent.bundle_start == done and extent.bundle_start < extent.bundle_stop <= table.bundle_count,
            f"{where}: bundles {extent.bundle_start}..{extent.bundle_stop}, expected to go on at {done} of "
            f"{table.bundle_count}",
        )
        covered[extent.table][extent.plane] = extent.bundle_stop
        _check_extent(manifest, where, extent, table)
    for index, table in enumerate(manifest.tables):
        whole = all(done == table.bundle_count for done in covered[index])
        _require(
            whole, f"table {index} ({table.role}): its extents hold {covered[index]} of {table.bundle_count} bundles"
        )


def _check_extent(manifest: Manifest, where: str, extent: Extent, table: Table) -> None:
    plane = table.planes[extent.plane]
    size = (extent.bundle_stop - extent.bundle_start) * plane.bundle_bytes
    _require(extent.bytes == size, f"{where}: {extent.bytes} bytes, its bundles have {size}")
    _require(0 < extent.bytes <= EXTENT_BYTES_MAX, f"{where}: {extent.bytes} bytes, expected 1..{EXTENT_BYTES_MAX}")
    _require(
        0 < extent.stored_bytes <= EXTENT_BYTES_MAX and (plane.codec != "raw" or extent.stored_bytes == extent.bytes),
        f"{where}: {extent.stored_bytes} stored bytes for {extent.bytes} bytes of {plane.codec}",
    )
    _require(0 <= extent.shard < len(manifest.shards), f"{where}: shard {extent.shard} does not exist")
    shard = manifest.shards[extent.shard]
    aligned = extent.offset > 0 and extent.offset % ALIGNMENT_BYTES == 0
    _require(aligned, f"{where}: offset {extent.offset} is not a positive multiple of {ALIGNMENT_BYTES}")
    _require(
        extent.offset + extent.stored_bytes <= shard.bytes,
        f"{where}: bytes {extent.offset}..{extent.offset + extent.stored_bytes} lie outside {shard.file} of "
        f"{shard.bytes} bytes",
    )
    block = table.checksum_block_bytes
    count = -(-extent.stored_bytes // block) if block else 1
    _require(
        len(extent.checksums) == count and all(CHECKSUM.fullmatch(digest) for digest in extent.checksums),
        f"{where}: expected {count} checksums of 16 hex digits",
    )


def _check_overlaps(manifest: Manifest) -> None:
    """Inside a shard, extents follow one another without sharing a byte."""
    ends = [0] * len(manifest.shards)
    for index, extent in enumerate(manifest.extents):
        _require(extent.offset >= ends[extent.shard], f"extent {index}: overlaps the extent before it in its shard")
        ends[extent.shard] = extent.offset + extent.stored_bytes
