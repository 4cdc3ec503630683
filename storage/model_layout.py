"""The matrices of each layout of a model: which tables there are, of which shapes. Pure; knows no files and no codecs.

| layout | tables of a layer, in compute order | bundle |
|---|---|---|
| dense | attn_qkv, attn_out, mlp | row, row, neuron |
| input-channel | attn_qkv, attn_out, mlp_in, mlp_down; the first and third of a whole layer group | input channel |
| gate-first | attn_qkv, attn_out, mlp_gate, mlp_updown | row, row, row, neuron |
| neuron | attn_qkv, attn_out, mlp | row, row, neuron |

Bundles of input channels, of `mlp_updown`, and of `mlp` in layout neuron are self-contained.
"""

from collections.abc import Iterator, Mapping
from typing import get_args

from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.manifest import Layout, ModelLayout, Role

MODEL_LAYOUTS: tuple[ModelLayout, ...] = get_args(ModelLayout)
Shape = tuple[Layout, int, int]  # layout, bundle count, elements per bundle
Groups = Mapping[Role, int]  # how many layers a table of a role spans, where that is not 1
# What reads the residual stream: its active channels in one layer are mostly those of the next ones. Those of attn_out
# and mlp_down tell nothing of another layer, so a read for several would bring in vain what it brings for the others.
GROUPED_ROLES: tuple[Role, ...] = ("attn_qkv", "mlp_in")


def layer_shapes(spec: DecoderSpec, layout: ModelLayout, groups: Groups) -> Iterator[tuple[Role, int, Shape]]:
    """The matrices of all layers in the order of their first use: role, first layer, shape. `groups` matter to layout
    input-channel alone."""
    hidden, ff = spec.hidden_size, spec.ff_size
    if layout == "input-channel":
        for layer in range(spec.layer_count):
            for role, inputs in _channels(spec):
                if layer % groups.get(role, 1) == 0:
                    count = inputs * layers_of(spec, role, layer, groups)
                    yield role, layer, (layout, count, sum(segments_of(spec, layout, role)))
        return
    for layer in range(spec.layer_count):
        yield "attn_qkv", layer, ("output-row", spec.qkv_size, hidden)
        yield "attn_out", layer, ("output-row", hidden, spec.q_size)
        if layout == "gate-first":
            yield "mlp_gate", layer, ("output-row", ff, hidden)
            yield "mlp_updown", layer, ("neuron", ff, 2 * hidden)
        else:
            yield "mlp", layer, ("neuron", ff, 3 * hidden)


def layers_of(spec: DecoderSpec, role: Role, first: int, groups: Groups) -> int:
    """Layers of the table of a role that begins with layer `first`; the last group of a model may be ragged."""
    return min(groups.get(role, 1), spec.layer_count - first)


def segments_of(spec: DecoderSpec, layout: ModelLayout, role: Role) -> tuple[int, ...]:
    """Elements of each row of a bundle of a self-contained table; empty for other tables."""
    hidden = spec.hidden_size
    if layout == "input-channel":
        outputs: dict[Role, tuple[int, ...]] = {
            "attn_qkv": (spec.q_size, spec.kv_size, spec.kv_size),
            "attn_out": (hidden,),
            "mlp_in": (spec.ff_size, spec.ff_size),
            "mlp_down": (hidden,),
        }
        return outputs.get(role, ())
    if layout == "gate-first" and role == "mlp_updown":
        return (hidden, hidden)
    if layout == "neuron" and role == "mlp":
        return (hidden, hidden, hidden)
    return ()


def _channels(spec: DecoderSpec) -> list[tuple[Role, int]]:
    return [
        ("attn_qkv", spec.hidden_size), ("attn_out", spec.q_size), ("mlp_in", spec.hidden_size),
        ("mlp_down", spec.ff_size),
    ]  # fmt: skip
