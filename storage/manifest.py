"""What `manifest.json` says: the decoder, the tables, and where every extent of them lies. The format: docs/format.md.

Tables and extents are stored in **compute order**: all vectors first, then an `embed` that is not the head, then per
layer, or layer group, its matrices, at last the head (`head`, or the tied `embed`). The extents of one table are
contiguous ids in the order of its bundles, all planes of a run of bundles next to one another. So "the next thing that
a dense step needs" is the next extent id.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage.checksums import digest
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import FormatError
from tidemill.storage.ids import ExtentId, TableId

FORMAT_VERSION = 1
ALIGNMENT_BYTES = 4096
MODEL_LAYER = -1  # `Table.layer` of what belongs to no layer

Element = Literal["bf16", "f16", "f32", "u32"]
ELEMENT_BYTES: Mapping[str, int] = {"bf16": 2, "f16": 2, "f32": 4, "u32": 4}
Layout = Literal["vector", "output-row", "input-channel", "neuron", "permutation"]
ModelLayout = Literal["dense", "input-channel", "gate-first", "neuron"]
Role = Literal[
    "attn_norm", "qkv_bias", "q_norm", "k_norm", "out_bias", "attn_post_norm", "mlp_norm", "mlp_post_norm",
    "final_norm", "attn_qkv", "attn_out", "mlp", "mlp_in", "mlp_down", "mlp_gate", "mlp_updown", "embed", "head",
    "permutation",
]  # fmt: skip
# Codecs whose every bundle holds all that is needed to read, verify and compute with it alone.
SELF_CONTAINED_CODECS = ("bf16-bundles", "raw-bundles")


class Plane(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One precision slice of every bundle of a table. `bundle_bytes` counts the bytes in the arena that each bundle has
    for itself; a codec may put more behind those of an extent."""

    codec: str
    bundle_bytes: int


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One weight role of one layer, or of a group of layers: `bundle_count` bundles of `bundle_elements` elements each.

    vector: one bundle, the vector. output-row: bundle i = row i of the matrix [bundle_count, bundle_elements].
    input-channel: bundle c · layers + p = column c of each of the role's matrices of layer `layer` + p.
    neuron: bundle i = gate row i, up row i, down column i (`mlp_updown`: without the gate row), each `hidden_size`
    elements.
    permutation: one u32 bundle; element i = the source index of the bundle stored at place i of another table.
    """

    role: Role
    layer: int  # the first of a group
    layout: Layout
    element: Element
    bundle_count: int
    bundle_elements: int
    planes: tuple[Plane, ...]
    checksum_block_bytes: int  # of decoded bytes; 0: one checksum for the whole extent
    permutation: int | None = None  # TableId of the order of this table's neurons; those of a group follow one another
    layers: int = 1
    segments: tuple[int, ...] = ()  # elements of each row of a self-contained bundle; empty for other tables

    @property
    def bundle_bytes(self) -> int:
        """Bytes of a whole bundle in its source element type."""
        return self.bundle_elements * ELEMENT_BYTES[self.element]

    @property
    def kind(self) -> str:
        """What kernels are specialised for: the element, or the codec where weights lie in the arena coded."""
        coded = len(self.planes) > 1 or self.planes[0].codec == "bf16-bundles"
        return self.planes[0].codec if coded else self.element

    @property
    def is_self_contained(self) -> bool:
        """Whether single bundles can be read, verified by a digest of their own, and computed with."""
        return self.planes[0].codec in SELF_CONTAINED_CODECS

    @property
    def channel_count(self) -> int:
        """Input channels (or neurons, or rows) of each layer."""
        return self.bundle_count // self.layers

    @property
    def rows_per_bundle(self) -> int:
        """A bundle is one row of weights that meet one input; a neuron is three: gate, up and down."""
        return len(self.segments) or (3 if self.layout == "neuron" else 1)

    @property
    def row_elements(self) -> int:
        """Of every row, where all are equal: in all tables but self-contained ones."""
        return self.bundle_elements // self.rows_per_bundle

    @property
    def row_sizes(self) -> tuple[int, ...]:
        """Elements of each row of a bundle."""
        return self.segments or (self.row_elements,) * self.rows_per_bundle

    def bundles_of(self, channels: npt.NDArray[np.int64], layer: int) -> npt.NDArray[np.int64]:
        """Bundle ids of channels of one layer of the group, in their order."""
        return channels * self.layers + (layer - self.layer)


class Extent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A run of bundles [bundle_start, bundle_stop) of one plane, contiguous in a shard."""

    table: int
    plane: int
    shard: int
    offset: int  # of the first byte in the shard file; a multiple of ALIGNMENT_BYTES
    stored_bytes: int  # on flash
    bytes: int  # in the arena
    bundle_start: int
    bundle_stop: int
    checksums: tuple[str, ...]  # xxh3_64 as 16 hex digits: of the stored bytes, or of each checksum block of them
    exponent_base: int = 0  # of plane 0 of bf16-planes: what its exponents are counted from
    exceptions: int = 0  # of bf16-bundles: how many all its bundles have, for people


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str  # relative to the model directory, below shards/
    bytes: int
    checksum: str  # xxh3_64 of the whole file


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A small file beside the manifest: tokenizer.json, chat_template.jinja, config.json, …"""

    file: str
    bytes: int
    checksum: str


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the weights come from, and what the conversion did to them (`note`, empty when nothing)."""

    kind: Literal["safetensors", "gguf", "synthetic"]
    name: str
    fingerprint: str
    note: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    format_version: int
    writer: str
    decoder: DecoderSpec
    source: Source
    tables: tuple[Table, ...]
    shards: tuple[Shard, ...]
    extents: tuple[Extent, ...]
    files: tuple[ModelFile, ...]

    @cached_property
    def _table_ids(self) -> Mapping[tuple[str, int], TableId]:
        return {
            (table.role, layer): TableId(i)
            for i, table in enumerate(self.tables)
            if table.role != "permutation"
            for layer in range(table.layer, table.layer + table.layers)
        }

    @cached_property
    def _extent_ranges(self) -> Mapping[int, range]:
        ranges: dict[int, range] = {}
        for i, extent in enumerate(self.extents):
            ranges[extent.table] = range(ranges[extent.table].start if extent.table in ranges else i, i + 1)
        return ranges

    def find_table(self, role: Role, layer: int = MODEL_LAYER) -> TableId | None:
        return self._table_ids.get((role, layer))

    def get_table(self, role: Role, layer: int = MODEL_LAYER) -> TableId:
        """The id of the table that holds a role of a layer, maybe of its whole group; raises FormatError when the model
        has none."""
        table = self.find_table(role, layer)
        if table is None:
            raise FormatError(f"manifest has no table {role!r} of layer {layer}; convert the model again")
        return table

    def extents_of(self, table: TableId) -> range:
        """The ids of a table's extents, all planes."""
        return self._extent_ranges[table]

    @cached_property
    def head_table(self) -> TableId:
        """What logits are computed with. A tied head may be stored twice: `embed` to be read by rows, and `head`."""
        head = self.find_table("head")
        return self.get_table("embed") if head is None else head

    @cached_property
    def layer_extents(self) -> range:
        """The extents that every step streams in order: those of all layers' matrices (vectors and head are apart)."""
        first = self.extents_of(self.get_table("attn_qkv", 0)).start
        return range(first, self.extents_of(self.head_table).start)

    @cached_property
    def head_extents(self) -> range:
        return self.extents_of(self.head_table)

    @cached_property
    def layout(self) -> ModelLayout:
        """How the matrices of the layers are laid out; it follows from the tables that there are."""
        if self.find_table("mlp_in", 0) is not None:
            return "input-channel"
        if self.find_table("mlp_updown", 0) is not None:
            return "gate-first"
        return "neuron" if self.tables[self.get_table("mlp", 0)].is_self_contained else "dense"

    @property
    def group(self) -> int:
        """Layers of a group: of all groups but the last, which may have fewer."""
        return self.tables[self.get_table("attn_qkv", 0)].layers

    @property
    def groups(self) -> Mapping[Role, int]:
        """How many layers a table of each role spans, where that is more than 1; the last of a role may have fewer."""
        return {table.role: table.layers for table in self.tables if table.layer == 0 and table.layers > 1}

    def permutation_of(self, table: TableId, layer: int) -> TableId | None:
        """The permutation of a table's neurons in one of its layers."""
        first = self.tables[table].permutation
        return None if first is None else TableId(first + layer - self.tables[table].layer)

    @cached_property
    def neuron_order(self) -> str:
        """Tells orders of stored neurons apart: a digest of the permutations; empty where every layer has the
        source's."""
        permutations = [i for i, table in enumerate(self.tables) if table.role == "permutation"]
        stored = [
            f"{self.tables[i].layer}:{','.join(self.extents[extent].checksums)}"
            for i in permutations
            for extent in self.extents_of(TableId(i))
        ]
        return digest(" ".join(stored).encode()) if stored else ""

    @cached_property
    def parameter_count(self) -> int:
        """Weights of the decoder, each once: a tied head that is stored apart is the embedding again."""
        twice = self.head_table if self.decoder.tied_head and self.find_table("head") is not None else None
        return sum(
            table.bundle_count * table.bundle_elements
            for index, table in enumerate(self.tables)
            if table.role != "permutation" and index != twice
        )

    @cached_property
    def matrix_kinds(self) -> tuple[str, ...]:
        """The kinds of what a step computes with, that of most bytes first."""
        sizes: dict[str, int] = {}
        for i in (*self.layer_extents, *self.head_extents):
            kind = self.tables[self.extents[i].table].kind
            sizes[kind] = sizes.get(kind, 0) + self.extents[i].bytes
        return tuple(sorted(sizes, key=lambda kind: -sizes[kind]))

    def planes_of(self, table: TableId) -> int:
        return len(self.tables[table].planes)

    def bytes_of(self, extents: range) -> int:
        """Decoded bytes of a range of extents."""
        return sum(self.extents[i].bytes for i in extents)

    def extent_at(self, table: TableId, bundle: int) -> ExtentId:
        """The extent of plane 0 that holds one bundle."""
        extents = self.extents_of(table)
        for i in extents:
            if self.extents[i].plane == 0 and self.extents[i].bundle_start <= bundle < self.extents[i].bundle_stop:
                return ExtentId(i)
        raise FormatError(f"table {table} has no bundle {bundle} of {self.tables[table].bundle_count}")
