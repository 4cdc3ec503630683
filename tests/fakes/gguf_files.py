"""Small GGUF files of a llama, with matrices of any supported type."""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

HIDDEN, FF, HEADS, KV_HEADS, LAYERS, VOCAB = 256, 512, 4, 2, 2, 64
HEAD = HIDDEN // HEADS
SHAPES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (KV_HEADS * HEAD, HIDDEN),
    "attn_v": (KV_HEADS * HEAD, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (FF, HIDDEN),
    "ffn_up": (FF, HIDDEN),
    "ffn_down": (HIDDEN, FF),
}


def write_gguf(
    path: Path, kind: gguf.GGMLQuantizationType, *, leave_out: str = "", architecture: str = "llama"
) -> None:
    """Random weights; types that the library can't quantise to get random blocks, which decode to something all the
    same."""
    rng = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FF)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    _add_tokenizer(writer)
    names = {f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in SHAPES.items()}
    for name, shape in {"token_embd.weight": (VOCAB, HIDDEN), **names}.items():
        if name != leave_out:
            writer.add_tensor(name, _matrix(rng, shape, kind), raw_dtype=kind)
    for name in ("output_norm", *(f"blk.{i}.{n}" for i in range(LAYERS) for n in ("attn_norm", "ffn_norm"))):
        writer.add_tensor(f"{name}.weight", rng.standard_normal(HIDDEN).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _matrix(
    rng: np.random.Generator, shape: tuple[int, int], kind: gguf.GGMLQuantizationType
) -> npt.NDArray[np.generic]:
    values = rng.standard_normal(shape).astype(np.float32)
    try:
        return gguf.quants.quantize(values, kind)  # type: ignore[no-any-return]
    except NotImplementedError:
        blocks = rng.integers(0, 256, gguf.quant_shape_to_byte_shape(shape, kind), dtype=np.uint8)
        # scales are f16 anywhere in a block: keep their exponents small so that nothing is infinite
        return blocks & 0x3B


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    alphabet = [chr(code) for code in range(33, 33 + VOCAB - 3)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<bos>", "<eos>", *alphabet, "!!"])
    writer.add_token_types([3, 3, *([1] * len(alphabet)), 1])
    writer.add_token_merges(["! !"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages[0]['content'] }}")
