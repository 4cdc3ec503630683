"""Which tables a decoder has, of which source tensors, and how the bundles of each are gathered."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.planes import EXCEPTION_SHARE_MAX, exception_share
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.convert.tensor_source import TensorSource
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import SourceError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import ELEMENT_BYTES, MODEL_LAYER, Element, Plane, Role, Table
from tidemill.storage.manifest_rules import Shape, expected_tables

EMBED_BLOCK_BYTES = 65536  # what reading one embedding row costs on flash; smaller reads cost nearly the same
PANEL_BYTES_MAX = 256 << 20  # of a down projection held at once to be read by columns
ROWS_BYTES = 8 << 20  # of its rows held besides
SAMPLED_ROWS = 32  # of a tensor looked at to choose its codec
AUTO_CODEC = "auto"

NeuronOrder = Callable[[int], npt.NDArray[np.uint32] | None]  # layer -> source index of each stored neuron
Bytes = npt.NDArray[np.uint8]
Order = npt.NDArray[np.int64]

LAYER_TENSORS: Mapping[Role, Sequence[str]] = {
    "attn_norm": ["input_layernorm.weight"],
    "qkv_bias": ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
    "q_norm": ["self_attn.q_norm.weight"],
    "k_norm": ["self_attn.k_norm.weight"],
    "out_bias": ["self_attn.o_proj.bias"],
    "attn_qkv": ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"],
    "attn_out": ["self_attn.o_proj.weight"],
    "mlp": ["mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"],
}
MODEL_TENSORS: Mapping[Role, str] = {
    "embed": "model.embed_tokens.weight",
    "head": "lm_head.weight",
    "final_norm": "model.norm.weight",
}


def tensors_of(spec: DecoderSpec, role: Role, layer: int) -> list[str]:
    """Hugging Face names of the tensors that make up a table, in the order in which they are joined."""
    if layer == MODEL_LAYER:
        return [MODEL_TENSORS["embed" if role == "head" and spec.tied_head else role]]
    names = dict(LAYER_TENSORS)
    if spec.post_norms:  # Gemma: four norms a layer
        names["attn_post_norm"] = ["post_attention_layernorm.weight"]
        names["mlp_norm"] = ["pre_feedforward_layernorm.weight"]
        names["mlp_post_norm"] = ["post_feedforward_layernorm.weight"]
    else:
        names["mlp_norm"] = ["post_attention_layernorm.weight"]
    return [f"model.layers.{layer}.{name}" for name in names[role]]


def expected_shapes(spec: DecoderSpec, role: Role) -> list[tuple[int, ...]]:
    hidden, ff = spec.hidden_size, spec.ff_size
    shapes: Mapping[Role, list[tuple[int, ...]]] = {
        "qkv_bias": [(spec.q_size,), (spec.kv_size,), (spec.kv_size,)],
        "q_norm": [(spec.head_size,)],
        "k_norm": [(spec.head_size,)],
        "attn_qkv": [(spec.q_size, hidden), (spec.kv_size, hidden), (spec.kv_size, hidden)],
        "attn_out": [(hidden, spec.q_size)],
        "mlp": [(ff, hidden), (ff, hidden), (hidden, ff)],
        "embed": [(spec.vocab_size, hidden)],
        "head": [(spec.vocab_size, hidden)],
    }
    return shapes.get(role, [(hidden,)])


def plan_tables(source: TensorSource, codec: str, neuron_order: NeuronOrder | None) -> list[Table]:
    """All tables in compute order, each with the element type of its tensors. Raises SourceError for tensors that are
    missing, misshapen or too many."""
    spec = source.decoder
    tables: list[Table] = []
    permutation_of: dict[int, int] = {}
    if neuron_order is not None:
        for layer in range(spec.layer_count):
            if neuron_order(layer) is not None:
                permutation_of[layer] = len(tables)
                tables.append(_table("permutation", layer, ("permutation", 1, spec.ff_size), "u32", "raw", None))
    needed: set[str] = set()
    # A head in planes, or compressed, cannot be read by single rows: the embedding then has a table of its own.
    chosen = _choose_codec(source, codec, "embed", MODEL_LAYER, spec.hidden_size)
    for role, layer, shape in expected_tables(spec, head_apart=not spec.tied_head or chosen != "raw"):
        element = _check_tensors(source, role, layer)
        needed.update(tensors_of(spec, role, layer))
        permutation = permutation_of.get(layer) if role == "mlp" else None
        layout, _, elements = shape
        table_codec = "raw"
        if layout in ("output-row", "neuron") and role != "embed":
            row_elements = elements // 3 if layout == "neuron" else elements
            table_codec = _choose_codec(source, codec, role, layer, row_elements)
        tables.append(_table(role, layer, shape, element, table_codec, permutation))
    if codec != AUTO_CODEC and all(plane.codec != codec for table in tables for plane in table.planes):
        stored = ", ".join(sorted({table.element for table in tables if table.layout in ("output-row", "neuron")}))
        raise SourceError(
            f"no matrix of this model can be stored as {codec}: they are {stored}; leave --codec out for what suits "
            "them (see docs/format.md for what a codec needs)"
        )
    others = source.others(needed)
    if others:
        raise SourceError(
            f"the model has {len(others)} tensors that are no part of a {spec.family} decoder of its configuration: "
            f"{', '.join(others[:5])}{', …' if len(others) > 5 else ''}; without them it would be another model"
        )
    return tables


def _table(role: Role, layer: int, shape: Shape, element: Element, codec: str, permutation: int | None) -> Table:
    layout, count, elements = shape
    bundle_bytes = elements * ELEMENT_BYTES[element]
    return Table(
        role=role,
        layer=layer,
        layout=layout,
        element=element,
        bundle_count=count,
        bundle_elements=elements,
        planes=tuple(Plane(codec, size) for size in get_codec(codec).plane_bytes(element, bundle_bytes)),
        checksum_block_bytes=EMBED_BLOCK_BYTES if role == "embed" else 0,
        permutation=permutation,
    )


def _choose_codec(source: TensorSource, codec: str, role: Role, layer: int, row_elements: int) -> str:
    """The codec of one table: the one asked for, or `auto`: planes for bf16. `raw` where that does not do: rows that
    planes cannot hold, or weights with more exceptions than planes save (a pruned table)."""
    names = tensors_of(source.decoder, role, layer)
    element = source.element(names[0])
    wanted = ("bf16-planes" if element == "bf16" else "raw") if codec == AUTO_CODEC else codec
    if not get_codec(wanted).supports(element, row_elements):
        return "raw"
    if wanted == "bf16-planes" and any(_sample_exceptions(source, name) > EXCEPTION_SHARE_MAX for name in names):
        return "raw"
    return wanted


def _sample_exceptions(source: TensorSource, name: str) -> float:
    rows = source.shape(name)[0]
    places = sorted({(rows - 1) * i // (SAMPLED_ROWS - 1) for i in range(SAMPLED_ROWS)})
    return exception_share(
        np.concatenate([source.rows(name, row, row + 1).reshape(-1) for row in places]).view(np.uint16)
    )


def _check_tensors(source: TensorSource, role: Role, layer: int) -> Element:
    names = tensors_of(source.decoder, role, layer)
    for name, expected in zip(names, expected_shapes(source.decoder, role), strict=True):
        got = source.shape(name)
        if got != expected:
            raise SourceError(f"tensor {name} has shape {list(got)}, the configuration makes it {list(expected)}")
    elements = {source.element(name) for name in names}
    if len(elements) > 1:
        raise SourceError(
            f"tensors {', '.join(names)} have different types {sorted(elements)}; they form one table and must have one"
        )
    return elements.pop()


class BundleReader:
    """Gathers bundles from source tensors. Holds one panel of one down projection, transposed, besides what it
    returns."""

    def __init__(self, source: TensorSource, tables: Sequence[Table], neuron_order: NeuronOrder | None) -> None:
        self._source = source
        self._tables = tables
        self._neuron_order = neuron_order
        self._panel: tuple[int, int, Bytes] | None = None  # layer, first place, [places, hidden bytes]

    def read(self, table_id: TableId, start: int, stop: int) -> Bytes:
        """Bundles [start, stop) as bytes [N, bundle_bytes], in stored order."""
        table = self._tables[table_id]
        if table.layout == "permutation":
            return self._order(table.layer)[None, :].astype("<u4").view(np.uint8)
        names = tensors_of(self._source.decoder, table.role, table.layer)
        if table.layout == "vector":
            return np.concatenate([self._source.rows(name, 0, 1) for name in names], axis=1)
        if table.layout == "neuron":
            return self._neurons(table, names, start, stop)
        return self._joined_rows(names, start, stop)

    def _joined_rows(self, names: Sequence[str], start: int, stop: int) -> Bytes:
        parts: list[Bytes] = []
        before = 0
        for name in names:
            count = self._source.shape(name)[0]
            first, last = max(0, start - before), min(count, stop - before)
            if first < last:
                parts.append(self._source.rows(name, first, last))
            before += count
        return np.concatenate(parts)

    def _neurons(self, table: Table, names: Sequence[str], start: int, stop: int) -> Bytes:
        gate, up, down = names
        order = None if table.permutation is None else self._order(table.layer).astype(np.int64)
        rows = [self._rows(gate, order, start, stop), self._rows(up, order, start, stop)]
        return np.concatenate([*rows, self._columns(table, down, order, start, stop)], axis=1)

    def _rows(self, name: str, order: Order | None, start: int, stop: int) -> Bytes:
        if order is None:
            return self._source.rows(name, start, stop)
        return np.concatenate([self._source.rows(name, row, row + 1) for row in order[start:stop].tolist()])

    def _order(self, layer: int) -> npt.NDArray[np.uint32]:
        order = self._neuron_order(layer) if self._neuron_order is not None else None
        if order is None or not np.array_equal(np.sort(order), np.arange(self._source.decoder.ff_size)):
            raise SourceError(
                f"the neuron order of layer {layer} is not a permutation of its {self._source.decoder.ff_size} neurons"
            )
        return order

    def _columns(self, table: Table, name: str, order: Order | None, start: int, stop: int) -> Bytes:
        """Columns of a down projection [hidden, ff] as rows, those of the neurons stored at places [start, stop), out
        of a panel of consecutive places that is read row by row."""
        hidden, ff = self._source.shape(name)
        itemsize = ELEMENT_BYTES[table.element]
        width = max(1, min(ff, PANEL_BYTES_MAX // (hidden * itemsize)))
        parts: list[Bytes] = []
        while start < stop:
            first = start // width * width
            if self._panel is None or self._panel[:2] != (table.layer, first):
                self._panel = None
                columns = slice(first, first + width) if order is None else order[first : first + width]
                self._panel = (table.layer, first, self._read_panel(name, columns, itemsize))
            last = min(stop, first + width)
            parts.append(self._panel[2][start - first : last - first])
            start = last
        return np.concatenate(parts)

    def _read_panel(self, name: str, columns: slice | Order, itemsize: int) -> Bytes:
        hidden, ff = self._source.shape(name)
        element = np.dtype(f"<u{itemsize}")  # whole elements move five times as fast as bytes
        count = len(range(ff)[columns]) if isinstance(columns, slice) else len(columns)
        panel = np.empty((count, hidden), element)
        step = max(1, ROWS_BYTES // (ff * itemsize))
        for row in range(0, hidden, step):
            stop = min(hidden, row + step)
            panel[:, row:stop] = self._source.rows(name, row, stop).view(element)[:, columns].T
        return panel.view(np.uint8)
