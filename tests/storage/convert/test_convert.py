import json
import os
import shutil
import signal
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.fakes.checkpoints import write_checkpoint
from tests.fakes.gguf_files import FF, HEAD, HIDDEN, write_gguf
from tests.fakes.resident import logits_of, resident_decoder
from tidemill.storage.convert.convert import convert_model, verify_conversion
from tidemill.storage.convert.decoder_config import read_decoder_spec
from tidemill.storage.convert.gguf_source import GgufSource, to_bf16
from tidemill.storage.convert.safetensors_source import SafetensorsSource
from tidemill.storage.errors import (
    CorruptDataError,
    DeviceError,
    FormatError,
    SourceError,
    StorageError,
    UnsupportedModelError,
)
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.shard_reader import read_table

KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hf") / "model"
    write_checkpoint(directory, "smollm2", torch.bfloat16)
    return directory


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def rewrite_header(path: Path, change: object) -> None:
    """Apply a function to the header of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)  # type: ignore[operator]
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["auto", "raw", "zstd", "bf16-planes"])
def test_a_conversion_is_its_source_bit_for_bit(checkpoint: Path, tmp_path: Path, codec: str) -> None:
    told: list[tuple[int, int]] = []
    convert_model(checkpoint, tmp_path / "m", codec=codec, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    verify_conversion(checkpoint, tmp_path / "m")
    manifest = load_manifest(tmp_path / "m")
    assert manifest.source.note == ""
    assert {table.element for table in manifest.tables} == {"bf16"}
    expected = resident_decoder(checkpoint_model(checkpoint, tmp_path))
    assert np.array_equal(logits_of(resident_decoder(tmp_path / "m"), [3, 4, 5]), logits_of(expected, [3, 4, 5]))


def test_a_codec_that_suits_no_matrix_is_refused_instead_of_left_out(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no matrix of this model can be stored as fp16-planes: they are bf16"):
        convert_model(checkpoint, tmp_path / "m", codec="fp16-planes")
    assert not (tmp_path / "m").exists()


def checkpoint_model(checkpoint: Path, tmp_path: Path) -> Path:
    convert_model(checkpoint, tmp_path / "plain")
    return tmp_path / "plain"


@pytest.mark.slow
def test_permuted_neurons_give_the_logits_within_rounding_and_are_verified(checkpoint: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(112).astype(np.uint32)
    convert_model(checkpoint, tmp_path / "p", neuron_order=lambda layer: order if layer != 1 else None)
    verify_conversion(checkpoint, tmp_path / "p")
    plain = logits_of(resident_decoder(checkpoint_model(checkpoint, tmp_path)), [3, 9, 27])
    permuted = logits_of(resident_decoder(tmp_path / "p"), [3, 9, 27])
    # the same sums in another order: γ_n bounds, n the longest sum, times the layers that feed one another
    assert np.allclose(permuted, plain, rtol=0, atol=3 * 112 * 2.0**-24 * float(np.abs(plain).max()) * 4)
    assert not np.array_equal(permuted, plain)


@pytest.mark.slow
def test_verification_finds_a_source_that_differs(checkpoint: Path, copy: Path, tmp_path: Path) -> None:
    convert_model(copy, tmp_path / "m")
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match="differ from"):
        verify_conversion(copy, tmp_path / "m")


def test_verification_finds_another_decoder_and_another_tokenizer(copy: Path, tmp_path: Path) -> None:
    convert_model(copy, tmp_path / "m")
    config = json.loads((copy / "config.json").read_bytes())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 99}))
    with pytest.raises(CorruptDataError, match=r"another one \(max_context 256 / 99\)"):
        verify_conversion(copy, tmp_path / "m")
    (copy / "config.json").write_bytes((tmp_path / "m" / "config.json").read_bytes())
    verify_conversion(copy, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptDataError, match=r"tokenizer\.json differs"):
        verify_conversion(copy, tmp_path / "m")


def test_only_one_conversion_writes_to_a_destination(copy: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        if not refused:
            with pytest.raises(FormatError, match="being written by another conversion") as caught:
                convert_model(copy, tmp_path / "m")
            refused.append(str(caught.value))

    convert_model(copy, tmp_path / "m", on_progress=meanwhile)
    assert refused
    verify_conversion(copy, tmp_path / "m")


def test_a_conversion_that_was_killed_is_gone_on_with_and_gives_the_same_bytes(copy: Path, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        convert_model(copy, tmp_path / "m", on_progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "m.partial").exists()
    convert_model(copy, tmp_path / "m")  # the lock of the dead one is gone with it
    verify_conversion(copy, tmp_path / "m")
    expected = convert_model(copy, tmp_path / "whole")
    assert load_manifest(tmp_path / "m") == expected
    assert not (tmp_path / "m.partial").exists()


def test_a_destination_that_cannot_be_made_is_told(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="cannot write"):
        convert_model(copy, tmp_path / "file" / "m")


@pytest.mark.slow
def test_indexed_shards_are_read_like_a_single_file(copy: Path, tmp_path: Path) -> None:
    expected = convert_model(copy, tmp_path / "single")
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name].clone() for name in part}, copy / file)
        weight_map.update(dict.fromkeys(part, file))
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert [e.checksums for e in convert_model(copy, tmp_path / "indexed").extents] == [
        e.checksums for e in expected.extents
    ]
    (copy / "model-1.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model-1.safetensors is missing"):
        convert_model(copy, tmp_path / "broken")


def test_pickled_weights_are_refused_with_the_reason(tmp_path: Path, checkpoint: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedModelError, match=r"can run any code.*save_pretrained"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda h: h.pop("model.norm.weight"), SourceError, "no tensor 'model.norm.weight'"),
        (lambda h: h["model.norm.weight"].update(shape=[2, 32]), SourceError, r"shape \[2, 32\].*makes it \[64\]"),
        (lambda h: h["model.norm.weight"].update(shape=[-64]), SourceError, "damaged"),
        (lambda h: h["model.norm.weight"].update(dtype="F8_E4M3"), UnsupportedModelError, "BF16, F16, F32"),
        (lambda h: h["model.norm.weight"].update(data_offsets=[0, 128]), SourceError, "damaged"),
        (lambda h: h["model.norm.weight"].update(data_offsets=[1 << 40, (1 << 40) + 128]), SourceError, "damaged"),
        (lambda h: h["model.norm.weight"].update(data_offsets=["a", "b"]), SourceError, "cannot be read"),
        (lambda h: h.update({"x": 3}), SourceError, "cannot be read"),
    ],
)
def test_a_damaged_safetensors_header_is_refused(
    copy: Path, tmp_path: Path, change: object, error: type[Exception], says: str
) -> None:
    rewrite_header(copy / "model.safetensors", change)
    with pytest.raises(error, match=says):
        convert_model(copy, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=64), length=st.integers(0, 1 << 63))
def test_any_bytes_as_safetensors_are_a_clear_error(checkpoint: Path, tmp_path: Path, data: bytes, length: int) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    for content in (data, struct.pack("<Q", length) + data):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(StorageError):
            SafetensorsSource(tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), version=st.integers(0, 4))
def test_any_bytes_as_gguf_are_a_clear_error(tmp_path: Path, data: bytes, version: int) -> None:
    for content in (data, b"GGUF" + struct.pack("<I", version) + data):
        (tmp_path / "x.gguf").write_bytes(content)
        with pytest.raises(StorageError):
            GgufSource(tmp_path / "x.gguf")


def test_a_destination_in_the_hub_cache_or_in_use_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "models--a--b" / "snapshots" / "0123" / "m"
    with pytest.raises(FormatError, match="not ours to write"):
        convert_model(tmp_path, inside)
    with pytest.raises(FormatError, match="exists already"):
        convert_model(tmp_path, tmp_path)


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


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("model_type", "mamba", "'mamba' is not supported. Supported: llama"),
        ("mlp_bias", True, "mlp_bias = True is not supported"),
        ("hidden_act", "relu", "'relu' is not supported"),
        ("hidden_size", "64", "hidden_size = '64', expected a whole number"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 2.0}, "'yarn' is not supported"),
        ("quantization_config", {"bits": 4}, "quantization_config"),
        ("final_logit_softcapping", 30.0, "final_logit_softcapping"),
    ],
)
def test_an_unsupported_configuration_names_field_and_value(
    checkpoint: Path, field: str, value: object, says: str
) -> None:
    config = {**json.loads((checkpoint / "config.json").read_bytes()), field: value}
    with pytest.raises(UnsupportedModelError, match=says):
        read_decoder_spec(config)


def test_old_and_new_forms_of_rope_are_read_alike() -> None:
    base = {
        "model_type": "llama",
        "vocab_size": 9,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 9,
        "max_position_embeddings": 9,
    }
    values = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    old = read_decoder_spec({**base, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **values}})
    new = read_decoder_spec({**base, "rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **values}})
    assert old == new
    gemma = {
        **base,
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 4,
        "num_hidden_layers": 7,
    }
    spec = read_decoder_spec({**gemma, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6})
    assert spec.windows == (4, 4, 4, 4, 4, 0, 4)
    assert spec.rope_of(5).theta == 1e6
    assert spec.rope_of(0).theta == 1e4
