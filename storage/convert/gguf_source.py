"""A GGUF file, dequantised to bf16 row by row. Nothing of it is mapped or held."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import gguf
import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage.convert.decoder_config import read_decoder_spec
from tidemill.storage.convert.gguf_config import GgufMetadata, llama3_scaling, read_gguf_config
from tidemill.storage.convert.gguf_header import GgufTensor, read_gguf_header
from tidemill.storage.convert.gguf_tokenizer import build_tokenizer_files
from tidemill.storage.convert.tensor_source import read_exactly, sample_digest
from tidemill.storage.errors import SourceError, UnsupportedModelError
from tidemill.storage.manifest import Element, Source

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K")
ROPE_FACTORS = "rope_freqs.weight"  # no weight of the decoder: becomes its rope scaling
NAMES: Mapping[str, str] = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
}
MODEL_NAMES: Mapping[str, str] = {
    "model.embed_tokens.weight": "token_embd.weight",
    "lm_head.weight": "output.weight",
    "model.norm.weight": "output_norm.weight",
}


class GgufSource:
    """Implements TensorSource under Hugging Face names. Matrices become bf16 (round to nearest even), vectors stay
    f32."""

    def __init__(self, path: Path) -> None:
        self._path = path
        header = read_gguf_header(path)
        metadata, self._tensors = GgufMetadata(header.values), header.tensors
        embed = self._get("token_embd.weight")
        config = read_gguf_config(
            metadata,
            vocab_size=embed.shape[0],
            tied="output.weight" not in self._tensors,
            qkv_bias="blk.0.attn_q.bias" in self._tensors,
        )
        _check_types(path, self._tensors)
        if ROPE_FACTORS in self._tensors:
            factors = self._floats(ROPE_FACTORS, 0, 1)[0]
            config["rope_scaling"] = llama3_scaling(factors, float(str(config["rope_theta"])))
        self.decoder = read_decoder_spec(config)
        if self.decoder.family == "gemma3":  # GGUF stores Gemma's norms with the 1 added
            self.decoder = msgspec.structs.replace(self.decoder, norm_weight_offset=0.0)
        self._interleaved = metadata.architecture == "llama"
        self.files = {"config.json": json.dumps(config, indent=2).encode(), **build_tokenizer_files(metadata)}

    @property
    def source(self) -> Source:
        note = _note(self._tensors)
        return Source(kind="gguf", name=self._path.name, fingerprint=sample_digest(self._path), note=note)

    def others(self, names: Collection[str]) -> list[str]:
        return sorted(set(self._tensors) - {self._gguf_name(name) for name in names} - {ROPE_FACTORS})

    def shape(self, name: str) -> tuple[int, ...]:
        return self._get(self._gguf_name(name)).shape

    def element(self, name: str) -> Element:
        return "f32" if len(self.shape(name)) == 1 else "bf16"

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.uint8]:
        stored = self._gguf_name(name)
        if len(self._get(stored).shape) == 1:
            values = self._vector(name, stored)
            return values.view(np.uint8).reshape(1, -1)
        values = (
            self._halves(name, stored, start, stop) if self._is_rotated(name) else self._floats(stored, start, stop)
        )
        return to_bf16(values).view(np.uint8)

    def close(self) -> None:
        """Nothing is held open."""

    def _is_rotated(self, name: str) -> bool:
        return self._interleaved and any(part in name for part in ("q_proj", "k_proj"))

    def _vector(self, name: str, stored: str) -> npt.NDArray[np.float32]:
        values = self._floats(stored, 0, 1)[0]
        if self._is_rotated(name):
            values = values.reshape(-1, self.decoder.head_size // 2, 2).swapaxes(1, 2).reshape(-1)
        return np.ascontiguousarray(values)

    def _halves(self, name: str, stored: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows of q or k in the order of rope in halves; GGUF's llama stores each head's rows with the halves
        interleaved."""
        head = self.decoder.head_size
        first, last = start // head, -(-stop // head)
        rows = self._floats(stored, first * head, last * head)
        rows = rows.reshape(last - first, head // 2, 2, -1).swapaxes(1, 2).reshape((last - first) * head, -1)
        return rows[start - first * head : stop - first * head]

    def _floats(self, stored: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        tensor = self._get(stored)
        data = read_exactly(self._path, tensor.offset + start * tensor.row_bytes, (stop - start) * tensor.row_bytes)
        rows = np.frombuffer(data, np.uint8).reshape(stop - start, tensor.row_bytes)
        if tensor.kind == gguf.GGMLQuantizationType.F32:
            return rows.view(np.float32)
        if tensor.kind == gguf.GGMLQuantizationType.F16:
            return rows.view(np.float16).astype(np.float32)
        # Blocks are any bits: scales of a hostile file may overflow, which is theirs to answer for.
        with np.errstate(all="ignore"):
            values: npt.NDArray[np.float32] = gguf.quants.dequantize(rows, tensor.kind)
        return values

    def _gguf_name(self, name: str) -> str:
        if name in MODEL_NAMES:
            return MODEL_NAMES[name]
        _, _, layer, rest = name.split(".", 3)
        if rest == "post_attention_layernorm.weight":
            rest = "post_attention_norm.weight" if self.decoder.post_norms else "ffn_norm.weight"
        elif rest in NAMES:
            rest = NAMES[rest]
        else:
            module, _, kind = rest.rpartition(".")
            rest = f"{NAMES[module]}.{kind}"
        return f"blk.{layer}.{rest}"

    def _get(self, stored: str) -> GgufTensor:
        if stored not in self._tensors:
            raise SourceError(
                f"{self._path} has no tensor {stored!r}; the file is incomplete or of another architecture"
            )
        return self._tensors[stored]


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round f32 to bf16 bits, to nearest, ties to even. Values that are no numbers stay none."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    broken = np.isnan(values)
    if (
        broken.any()
    ):  # rounding up would carry into the sign; the quiet bit keeps the mantissa from becoming infinity's 0
        rounded[broken] = (bits[broken] >> 16 | 0x40).astype(np.uint16)
    return rounded


def _check_types(path: Path, tensors: Mapping[str, GgufTensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.kind.name not in TYPES:
            raise UnsupportedModelError(
                f"{path}: tensor {name} has type {tensor.kind.name}; supported are {', '.join(TYPES)}"
            )


def _note(tensors: Mapping[str, GgufTensor]) -> str:
    kinds = Counter(tensor.kind.name for tensor in tensors.values() if len(tensor.shape) > 1)
    if set(kinds) <= {"BF16"}:
        return ""
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"matrices dequantised to bf16 from {listed}; the model computes with these bf16 weights"
