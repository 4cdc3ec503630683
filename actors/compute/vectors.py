"""Norm weights and biases as f32, with the norms' offset added: small, used in every step, kept outside the arena."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.kernels.elements import widen_array
from tidemill.actors.compute.placement import Placement
from tidemill.storage.manifest import MODEL_LAYER, Manifest, Role

F32 = npt.NDArray[np.float32]


NOTHING: F32 = np.zeros(0, np.float32)  # what the model does not have; kernels leave the step out


class LayerVectors(NamedTuple):
    """Those that the model does not have are NOTHING."""

    attn_norm: F32
    mlp_norm: F32
    qkv_bias: F32
    out_bias: F32
    q_norm: F32
    k_norm: F32
    attn_post_norm: F32
    mlp_post_norm: F32


def load_vectors(
    manifest: Manifest, arena: npt.NDArray[np.uint8], placement: Placement
) -> tuple[list[LayerVectors], F32]:
    """All layers' vectors and the final norm, from the resident extents."""
    offset = np.float32(manifest.decoder.norm_weight_offset)

    def find(role: Role, layer: int) -> F32:
        table_id = manifest.find_table(role, layer)
        if table_id is None:
            return NOTHING
        (extent,) = manifest.extents_of(table_id)
        at = int(placement.offsets[extent])
        values = widen_array(arena[at : at + manifest.extents[extent].bytes], manifest.tables[table_id].element)
        return values + offset if role.endswith("norm") else values

    def get(role: Role, layer: int) -> F32:
        values = find(role, layer)
        assert values.size, f"{role} of layer {layer} is in every manifest that was checked"
        return values

    layers = [
        LayerVectors(
            attn_norm=get("attn_norm", layer),
            mlp_norm=get("mlp_norm", layer),
            qkv_bias=find("qkv_bias", layer),
            out_bias=find("out_bias", layer),
            q_norm=find("q_norm", layer),
            k_norm=find("k_norm", layer),
            attn_post_norm=find("attn_post_norm", layer),
            mlp_post_norm=find("mlp_post_norm", layer),
        )
        for layer in range(manifest.decoder.layer_count)
    ]
    return layers, get("final_norm", MODEL_LAYER)
