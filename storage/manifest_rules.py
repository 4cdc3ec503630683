"""The MUSTs of docs/format.md as code: a manifest that passes cannot make a reader leave its files, its memory or its
shapes."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from tidemill.storage.codecs.bf16_codes import EXCEPTION_BYTES, EXPONENT_BASE_MAX, EXPONENT_BASE_STEP
from tidemill.storage.codecs.registry import CODECS
from tidemill.storage.decoder_rules import SIZE_MAX, check_decoder
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest import (
    ALIGNMENT_BYTES,
    FORMAT_VERSION,
    MODEL_LAYER,
    Extent,
    Manifest,
    ModelLayout,
    Role,
    Table,
)
from tidemill.storage.model_layout import Groups, Shape, layer_shapes, layers_of, segments_of

TABLES_MAX = 1 << 16
EXTENTS_MAX = 1 << 22
SHARDS_MAX = 1 << 16
EXTENT_BYTES_MAX = 1 << 30
SHARD_NAME = re.compile(r"shards/[A-Za-z0-9_][A-Za-z0-9_.-]*\.arrow")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
OWN_NAMES = ("manifest.json", "shards")  # of the format itself, so no other file's
CHECKSUM = re.compile(r"[0-9a-f]{16}")
# Tables whose neurons may be stored in another order than the source's.
ORDERED_ROLES: tuple[Role, ...] = ("mlp", "mlp_in", "mlp_down", "mlp_gate", "mlp_updown")


def check_manifest(manifest: Manifest, path: Path) -> None:
    """Raises FormatError that names the file, the place and what was expected."""
    try:
        _check_counts(manifest)
        check_decoder(manifest.decoder)
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
    _require(
        manifest.format_version == FORMAT_VERSION,
        f"format_version is {manifest.format_version} inside the manifest, expected {FORMAT_VERSION} as outside",
    )
    for name, count, most in (
        ("tables", len(manifest.tables), TABLES_MAX),
        ("extents", len(manifest.extents), EXTENTS_MAX),
        ("shards", len(manifest.shards), SHARDS_MAX),
    ):
        _require(0 < count <= most, f"{count} {name}, expected 1..{most}")


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
        _require(
            FILE_NAME.fullmatch(file.file) is not None and file.file not in OWN_NAMES,
            f"file name {file.file!r} is not a plain name other than {' and '.join(OWN_NAMES)}",
        )
        _require(file.bytes >= 0, f"file {file.file}: {file.bytes} bytes, expected 0 or more")
        _require(
            CHECKSUM.fullmatch(file.checksum) is not None,
            f"file {file.file}: checksum {file.checksum!r:.200}, expected 16 hex digits",
        )
    others = [file.file for file in manifest.files]
    _require(len(set(others)) == len(others), f"files {', '.join(others):.200}: expected each name once")


def expected_tables(
    spec: DecoderSpec, *, head_apart: bool, layout: ModelLayout = "dense", groups: Groups = MappingProxyType({})
) -> Iterator[tuple[Role, int, Shape]]:
    """Every table that a decoder needs in a layout, in compute order (permutations are apart): role, (first) layer,
    shape. `head_apart`: the head is a table of its own, as it has to be when it is not tied."""
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
    if head_apart:
        yield "embed", MODEL_LAYER, embed
    yield from layer_shapes(spec, layout, groups)
    yield ("head" if head_apart else "embed"), MODEL_LAYER, embed


def _check_tables(manifest: Manifest) -> None:
    spec = manifest.decoder
    for index, table in enumerate(manifest.tables):
        spans = 1 <= table.layers <= spec.layer_count
        _require(spans, f"table {index}: {table.layers} layers, expected 1..{spec.layer_count}")
    spanned = sum(table.layers for table in manifest.tables)
    _require(spanned <= 2 * TABLES_MAX, f"tables of {spanned} layers in all, expected at most {2 * TABLES_MAX}")
    _require(all(table.planes for table in manifest.tables), "a table has no planes")
    layout, groups = manifest.layout, manifest.groups
    head_apart = not spec.tied_head or manifest.find_table("head") is not None
    expected = list(expected_tables(spec, head_apart=head_apart, layout=layout, groups=groups))
    present = [table for table in manifest.tables if table.role != "permutation"]
    _require(len(present) == len(expected), f"{len(present)} tables, the decoder needs {len(expected)}")
    for table, (role, layer, shape) in zip(present, expected, strict=True):
        got = (table.role, table.layer, (table.layout, table.bundle_count, table.bundle_elements))
        _require(got == (role, layer, shape), f"a table is {got}, expected {(role, layer, shape)} at its place")
        segments = segments_of(spec, layout, role)
        layers = layers_of(spec, role, layer, groups)
        _require(
            (table.layers, table.segments, table.is_self_contained) == (layers, segments, bool(segments)),
            f"{role} of layer {layer} has {table.layers} layers and rows of {table.segments} in "
            f"{table.planes[0].codec}, expected {layers} and {segments or 'none'}"
            f"{' in a codec of bundles' if segments else ''}",
        )
    for index, table in enumerate(manifest.tables):
        _check_table(manifest, index, table)


def _check_table(manifest: Manifest, index: int, table: Table) -> None:
    where = f"table {index} ({table.role} of layer {table.layer})"
    element_ok = (table.element == "u32") == (table.role == "permutation")
    _require(element_ok, f"{where}: element {table.element} does not go with its role")
    if table.role == "permutation":
        alone = (table.layout, table.bundle_count, table.layers, table.segments) == ("permutation", 1, 1, ())
        _require(alone and not table.is_self_contained, f"{where}: a permutation is one bundle")
        _require(0 < table.bundle_elements <= SIZE_MAX, f"{where}: {table.bundle_elements} elements")
    _require(
        len({plane.codec for plane in table.planes}) == 1 and table.planes[0].codec in CODECS,
        f"{where}: codecs {[plane.codec for plane in table.planes]}, known are {', '.join(CODECS)}, one a table",
    )
    codec = CODECS[table.planes[0].codec]
    fits = all(codec.supports(table.element, size) for size in table.row_sizes)
    _require(fits, f"{where}: rows of {table.row_sizes} {table.element} cannot be stored as {codec.name}")
    codec_rule = codec.planes_rule(table)
    got = tuple(plane.bundle_bytes for plane in table.planes)
    _require(codec_rule is None, f"{where}: planes of {got} bytes a bundle, expected {codec_rule}")
    blocks_ok = table.checksum_block_bytes == 0 or (
        codec.name == "raw" and table.checksum_block_bytes > 0 and table.checksum_block_bytes % ALIGNMENT_BYTES == 0
    )
    _require(
        blocks_ok,
        f"{where}: checksum blocks of {table.checksum_block_bytes} bytes, expected 0 or a multiple of 4096 on raw",
    )
    if table.permutation is not None:
        _check_permutation(manifest, where, table, table.permutation)


def _check_permutation(manifest: Manifest, where: str, table: Table, first: int) -> None:
    """Each layer of the table has an order of its own, of as many neurons as the decoder has."""
    inside = 0 <= first <= len(manifest.tables) - table.layers
    targets = manifest.tables[first : first + table.layers] if inside else ()
    fits = inside and all(
        (target.role, target.layer, target.bundle_elements)
        == ("permutation", table.layer + place, manifest.decoder.ff_size)
        for place, target in enumerate(targets)
    )
    _require(fits and table.role in ORDERED_ROLES, f"{where}: permutation {first} does not belong to it")


def _check_extents(manifest: Manifest) -> None:
    """Every table's bundles exactly once per plane, tables and bundles in order, the planes of a run of bundles next to
    one another, every extent inside its shard."""
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
        _require(
            extent.bundle_stop % table.layers == 0,
            f"{where}: it ends at bundle {extent.bundle_stop}, within a channel of {table.layers} layers",
        )
        if extent.plane > 0:
            before = manifest.extents[index - 1]
            follows = (before.table, before.plane + 1, before.bundle_stop) == (
                extent.table, extent.plane, extent.bundle_stop,
            )  # fmt: skip
            _require(follows, f"{where}: plane {extent.plane} does not follow the plane before of the same bundles")
        _check_extent(manifest, where, extent, table)
    for index, table in enumerate(manifest.tables):
        whole = all(done == table.bundle_count for done in covered[index])
        _require(
            whole, f"table {index} ({table.role}): its extents hold {covered[index]} of {table.bundle_count} bundles"
        )


def _check_extent(manifest: Manifest, where: str, extent: Extent, table: Table) -> None:
    plane = table.planes[extent.plane]
    least, most = CODECS[plane.codec].placed_bytes(extent.plane, table, extent.bundle_stop - extent.bundle_start)
    _require(
        least <= extent.bytes <= most and (extent.bytes - least) % 4 == 0,
        f"{where}: {extent.bytes} bytes, its bundles have {least}..{most}",
    )
    based = plane.codec == "bf16-planes" and extent.plane == 0
    _require(
        0 <= extent.exponent_base <= (EXPONENT_BASE_MAX if based else 0)
        and extent.exponent_base % EXPONENT_BASE_STEP == 0,
        f"{where}: exponent base {extent.exponent_base}, expected an even one of "
        f"0..{EXPONENT_BASE_MAX if based else 0}",
    )
    most_exceptions = extent.bytes // EXCEPTION_BYTES if plane.codec == "bf16-bundles" else 0
    _require(
        0 <= extent.exceptions <= most_exceptions,
        f"{where}: {extent.exceptions} exceptions, expected 0..{most_exceptions}",
    )
    _require(0 < extent.bytes <= EXTENT_BYTES_MAX, f"{where}: {extent.bytes} bytes, expected 1..{EXTENT_BYTES_MAX}")
    _require(
        0 < extent.stored_bytes <= EXTENT_BYTES_MAX
        and (not CODECS[plane.codec].is_identity or extent.stored_bytes == extent.bytes),
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
