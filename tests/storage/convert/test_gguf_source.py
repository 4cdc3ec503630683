import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.gguf_files import FF, HEAD, HIDDEN, write_gguf
from tidemill.storage.convert.convert import convert_model, verify_conversion
from tidemill.storage.convert.gguf_source import GgufSource, to_bf16
from tidemill.storage.errors import (
    SourceError,
    StorageError,
    UnsupportedModelError,
)
from tidemill.storage.shard_reader import read_table

KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), version=st.integers(0, 4))
def test_any_bytes_as_gguf_are_a_clear_error(tmp_path: Path, data: bytes, version: int) -> None:
    for content in (data, b"GGUF" + struct.pack("<I", version) + data):
        (tmp_path / "x.gguf").write_bytes(content)
        with pytest.raises(StorageError):
            GgufSource(tmp_path / "x.gguf")


def test_bf16_rounds_to_nearest_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0xBF808000], np.uint32)
    assert to_bf16(bits.view(np.float32)).tolist() == [0x3F80, 0x3F82, 0x3F80, 0x3F81, 0xBF80]


def test_bf16_keeps_infinity_and_what_is_no_number() -> None:
    bits = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7FC10000, 0x7F800000, 0x7F7FFFFF], np.uint32)
    assert to_bf16(bits.view(np.float32)).tolist() == [0x7FFF, 0xFFFF, 0x7FC0, 0x7FC1, 0x7F80, 0x7F80]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_gguf_matrices_are_the_librarys_values_as_bf16_in_rope_halves(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(path, gguf.GGMLQuantizationType[kind])
    manifest = convert_model(path, tmp_path / "m")
    verify_conversion(path, tmp_path / "m")
    assert (manifest.source.note == "") == (kind == "BF16")
    assert kind in manifest.source.note or kind == "BF16"
    stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    qkv = read_table(tmp_path / "m", manifest, manifest.get_table("attn_qkv", 1)).view(np.uint16)
    q = stored["blk.1.attn_q.weight"].reshape(-1, HEAD // 2, 2, HIDDEN).swapaxes(1, 2).reshape(-1, HIDDEN)
    assert np.array_equal(qkv[: len(q)], to_bf16(q))
    assert np.array_equal(qkv[-len(stored["blk.1.attn_v.weight"]) :], to_bf16(stored["blk.1.attn_v.weight"]))
    mlp = read_table(tmp_path / "m", manifest, manifest.get_table("mlp", 0)).view(np.uint16).reshape(FF, 3, HIDDEN)
    assert np.array_equal(mlp[:, 0], to_bf16(stored["blk.0.ffn_gate.weight"]))
    assert np.array_equal(mlp[:, 2], to_bf16(stored["blk.0.ffn_down.weight"]).T)
    norm = read_table(tmp_path / "m", manifest, manifest.get_table("final_norm")).view(np.float32)[0]
    assert np.array_equal(norm, stored["output_norm.weight"])


def test_gguf_that_cannot_be_converted_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(path, gguf.GGMLQuantizationType.Q5_0)
    with pytest.raises(UnsupportedModelError, match="Q5_0; supported are F32"):
        GgufSource(path)
    write_gguf(path, gguf.GGMLQuantizationType.F16, architecture="bert")
    with pytest.raises(UnsupportedModelError, match="'bert' is not supported; supported: llama"):
        GgufSource(path)
    write_gguf(path, gguf.GGMLQuantizationType.F16, leave_out="blk.1.ffn_up.weight")
    with pytest.raises(SourceError, match=r"no tensor 'blk.1.ffn_up.weight'"):
        convert_model(path, tmp_path / "m")
