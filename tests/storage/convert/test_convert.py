import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.resident import logits_of, resident_decoder
from tidemill.storage.convert.convert import convert_model, verify_conversion
from tidemill.storage.errors import (
    CorruptDataError,
    DeviceError,
    FormatError,
    SourceError,
)
from tidemill.storage.manifest_file import load_manifest


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


def test_a_conversion_that_finished_nothing_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = set(tmp_path.iterdir())
    with pytest.raises(DeviceError, match="no space left while writing"):
        convert_model(copy, tmp_path / "m", take_space=refuse)
    assert set(tmp_path.iterdir()) == before


def test_a_destination_that_cannot_be_made_is_told(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="cannot write"):
        convert_model(copy, tmp_path / "file" / "m")


def test_a_destination_in_the_hub_cache_or_in_use_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "models--a--b" / "snapshots" / "0123" / "m"
    with pytest.raises(FormatError, match="not ours to write"):
        convert_model(tmp_path, inside)
    with pytest.raises(FormatError, match="exists already"):
        convert_model(tmp_path, tmp_path)
