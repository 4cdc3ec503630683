"""A GGUF file in bf16 says the same as the checkpoint that it was made of: same decoder, same bits in every table."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from tests.fakes.checkpoints import VOCAB, configurations, save_checkpoint
from tidemill.storage.convert.convert import convert_model, verify_conversion
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest
from tidemill.storage.shard_reader import read_table

ARCHITECTURES = {"llama-2": "llama", "smollm2": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
NAMES = {
    "model.embed_tokens": "token_embd",
    "lm_head": "output",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
FOUR_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
TWO_NORMS = {"post_attention_layernorm": "ffn_norm"}


def stored_name(name: str, norms: Mapping[str, str]) -> str:
    module, _, kind = name.rpartition(".")
    if module in NAMES:
        return f"{NAMES[module]}.{kind}"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{ {**NAMES, **norms}[rest] }.{kind}"


def interleaved(rows: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """The order of q and k rows that GGUF's llama has: pairs of rope side by side."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_as_gguf(checkpoint: Path, name: str, architecture: str, path: Path) -> None:
    config = configurations()[name]
    writer = gguf.GGUFWriter(path, architecture)
    write_sizes(writer, config.to_dict())
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for hf_name, tensor in load_file(checkpoint / "model.safetensors").items():
        values = tensor.float().numpy()
        for part, count in heads.items():
            if architecture == "llama" and part in hf_name:
                values = interleaved(values, count)
        if architecture == "gemma3" and "norm" in hf_name:
            values = values + 1.0
        stored = stored_name(hf_name, FOUR_NORMS if architecture == "gemma3" else TWO_NORMS)
        if values.ndim == 1:
            writer.add_tensor(stored, np.ascontiguousarray(values))
        else:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(stored, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_sizes(writer: gguf.GGUFWriter, config: Mapping[str, object]) -> None:
    heads, hidden = int(str(config["num_attention_heads"])), int(str(config["hidden_size"]))
    head_size = int(str(config.get("head_dim") or hidden // heads))
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(int(str(config["intermediate_size"])))
    writer.add_block_count(int(str(config["num_hidden_layers"])))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(str(config["num_key_value_heads"])))
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_context_length(int(str(config["max_position_embeddings"])))
    writer.add_layer_norm_rms_eps(float(str(config["rms_norm_eps"])))
    if config.get("sliding_window"):
        writer.add_sliding_window(int(str(config["sliding_window"])))
    if config["model_type"] == "gemma3_text":
        writer.add_rope_freq_base(1e6)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["a", "b", "ab", *(f"t{i}" for i in range(3, VOCAB))])
    writer.add_token_types([1] * VOCAB)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(VOCAB - 1)


def table_values(directory: Path, manifest: Manifest, index: int) -> npt.NDArray[np.float32]:
    """As f32: vectors are bf16 in the checkpoint and f32 in GGUF."""
    rows = read_table(directory, manifest, TableId(index))
    if manifest.tables[index].element == "bf16":
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return rows.view(np.float32)


@pytest.mark.parametrize(("name", "architecture"), [*ARCHITECTURES.items(), ("gemma3", "gemma3")])
def test_gguf_and_safetensors_give_the_same_model(name: str, architecture: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "hf", name, torch.bfloat16)
    write_as_gguf(tmp_path / "hf", name, architecture, tmp_path / "x.gguf")
    expected, got = convert_model(tmp_path / "hf", tmp_path / "a"), convert_model(tmp_path / "x.gguf", tmp_path / "b")
    verify_conversion(tmp_path / "x.gguf", tmp_path / "b")
    assert got.source.note == ""
    offset = expected.decoder.norm_weight_offset
    decoder = msgspec.structs.replace(got.decoder, norm_weight_offset=offset, norm_eps=expected.decoder.norm_eps)
    assert got.decoder.norm_eps == pytest.approx(expected.decoder.norm_eps, rel=1e-7)  # f32 in GGUF
    if (
        name == "gemma3"
    ):  # its pattern of layers is fixed in GGUF: with 3 layers none is global; its scalar is the head's
        decoder = msgspec.structs.replace(decoder, windows=expected.decoder.windows)
        decoder = msgspec.structs.replace(decoder, attention_scale=expected.decoder.attention_scale)
    assert decoder == expected.decoder
    for index, table in enumerate(expected.tables):
        assert got.tables[index].role == table.role
        added = np.float32(offset) if "norm" in table.role else np.float32(0)
        left, right = table_values(tmp_path / "a", expected, index), table_values(tmp_path / "b", got, index)
        assert np.array_equal(left + added, right), (table.role, table.layer)
