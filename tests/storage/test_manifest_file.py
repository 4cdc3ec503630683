"""Hostile manifests and shards: always a StorageError, never a crash, a hang, a big allocation or computing on them."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.models import write_tiny_model
from tidemill.storage.checksums import digest
from tidemill.storage.errors import CorruptDataError, FormatError, StorageError, VersionError
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import MANIFEST_FILE, load_manifest, verify_model
from tidemill.storage.shard_reader import load_extents

Json = dict[str, object]
ALLOCATED_MAX = 8 << 20
LLAMA3 = {"kind": "llama3", "factor": 8.0}
FILE = {"file": "x.json", "bytes": 1, "checksum": "0" * 16}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    return directory


def rewritten(model: Path, directory: Path, change: Callable[[Json], object]) -> Path:
    """A copy of the manifest with a change and a right checksum, beside links to the shards."""
    directory.mkdir(parents=True)
    manifest = json.loads((model / MANIFEST_FILE).read_bytes())["manifest"]
    change(manifest)
    write_envelope(directory, json.dumps(manifest).encode())
    (directory / "shards").mkdir()
    for shard in (model / "shards").iterdir():
        (directory / "shards" / shard.name).hardlink_to(shard)
    return directory


def write_envelope(directory: Path, content: bytes, version: int = 1) -> None:
    envelope = b'{"format_version":%d,"checksum":"%s","manifest":%s}' % (version, digest(content).encode(), content)
    (directory / MANIFEST_FILE).write_bytes(envelope)


def set_in(path: str, value: object) -> Callable[[Json], None]:
    """Assign to a dotted path."""

    def change(manifest: Json) -> None:
        *parents, last = path.split(".")
        target: object = manifest
        for name in parents:
            target = target[int(name)] if isinstance(target, list) else target[name]  # type: ignore[index]
        if isinstance(target, list):
            target[int(last)] = value
        else:
            target[last] = value  # type: ignore[index]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_in("shards.0.file", "../outside.arrow"), "shards/NAME.arrow"),
        (set_in("shards.0.file", "/etc/passwd"), "shards/NAME.arrow"),
        (set_in("shards.0.file", "shards/../../x.arrow"), "shards/NAME.arrow"),
        (set_in("shards.0.file", "shards/missing.arrow"), "is missing"),
        (set_in("shards.0.bytes", 12345678), "lie|bytes"),
        (set_in("files", [{"file": "../x", "bytes": 1, "checksum": "0" * 16}]), "plain name"),
        (set_in("extents.20.offset", 4097), "multiple of 4096"),
        (set_in("extents.20.offset", -4096), "multiple of 4096"),
        (set_in("extents.20.offset", 1 << 40), "outside"),
        (set_in("extents.20.offset", 4096), "overlaps"),
        (set_in("extents.20.stored_bytes", 1 << 50), "stored bytes"),
        (set_in("extents.20.bytes", 1 << 50), "bundles have"),
        (set_in("extents.20.bundle_stop", 1 << 30), "bundles"),
        (set_in("extents.20.bundle_start", 1), "go on at"),
        (set_in("extents.20.table", 9999), "does not exist"),
        (set_in("extents.20.plane", 3), "does not exist"),
        (set_in("extents.20.shard", 7), "does not exist"),
        (set_in("extents.20.checksums", []), "checksums"),
        (set_in("extents.20.checksums", ["zz"]), "checksums"),
        (set_in("tables.0.planes.0.codec", "nonsense"), "known are"),
        (set_in("tables.0.planes.0.bundle_bytes", 1), "planes of"),
        (set_in("tables.0.planes", []), "no planes"),
        (set_in("tables.0.element", "u32"), "element"),
        (set_in("tables.9.permutation", 0), "permutation"),
        (set_in("tables.9.checksum_block_bytes", 100), "checksum blocks"),
        (set_in("tables.9.bundle_count", 1 << 40), "expected"),
        (set_in("decoder.layer_count", 1 << 30), "layer_count"),
        (set_in("decoder.vocab_size", 0), "vocab_size"),
        (set_in("decoder.hidden_size", 1 << 40), "hidden_size"),
        (set_in("decoder.kv_head_count", 3), "share"),
        (set_in("decoder.head_size", 15), "head_size"),
        (set_in("decoder.windows", [0]), "windows"),
        (set_in("decoder.norm_eps", -1.0), "norm_eps"),
        (set_in("decoder.rope.theta", 0.0), "theta"),
        (set_in("decoder.rope.theta", 1e308), "rope.theta is 1e\\+308"),
        (set_in("decoder.rope.scaling", {**LLAMA3, "factor": 0.0}), "scaling.factor is 0.0"),
        (set_in("decoder.rope.scaling", {**LLAMA3, "low_freq_factor": -1.0}), "low_freq_factor is -1.0"),
        (set_in("decoder.rope.scaling", {**LLAMA3, "low_freq_factor": 4.0}), "less than high_freq_factor 4.0"),
        (set_in("decoder.rope.scaling", {**LLAMA3, "original_context": 0}), "original_context is 0"),
        (set_in("decoder.local_rope", {"theta": -1.0}), "local_rope.theta is -1.0"),
        (set_in("decoder.windows", [1 << 25] * 4), "windows is .*33554432.* expected one of 0..16777216"),
        (set_in("decoder.windows", [0, -1, 0, 0]), "windows is .*-1"),
        (set_in("decoder.norm_eps", 0.0), "norm_eps is 0.0"),
        (set_in("decoder.attention_scale", 1e308), "attention_scale is 1e\\+308"),
        (set_in("decoder.embed_scale", -1.0), "embed_scale is -1.0"),
        (set_in("decoder.bos_token_id", 96), "bos_token_id has 96, expected token ids of 0..95"),
        (set_in("decoder.eos_token_ids", [2, -5]), "eos_token_ids has -5"),
        (set_in("format_version", 77), "format_version is 77 inside"),
        (set_in("files", [{**FILE, "bytes": -1}]), "-1 bytes, expected 0 or more"),
        (set_in("files", [{**FILE, "checksum": "zz"}]), "checksum 'zz', expected 16 hex"),
        (set_in("files", [FILE, FILE]), "each name once"),
        (set_in("files", [{**FILE, "file": "manifest.json"}]), "plain name other than"),
        (set_in("decoder.tied_head", False), "tables"),
        (set_in("tables", []), "tables"),
        (set_in("extents", []), "extents"),
        (set_in("decoder.family", "gpt9"), "valid manifest"),
        (set_in("unknown_field", 1), "valid manifest"),
        (lambda manifest: manifest.pop("decoder"), "valid manifest"),
        (lambda manifest: manifest["extents"].pop(), "hold"),  # type: ignore[attr-defined]
        (lambda manifest: manifest["tables"].reverse(), "expected"),  # type: ignore[attr-defined]
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(
    model: Path, tmp_path: Path, change: Callable[[Json], object], says: str
) -> None:
    directory = rewritten(model, tmp_path / "m", change)
    with pytest.raises(FormatError, match=says):
        load_manifest(directory)


def test_another_version_is_named(model: Path, tmp_path: Path) -> None:
    content = bytes(msgspec.json.decode((model / MANIFEST_FILE).read_bytes(), type=dict[str, msgspec.Raw])["manifest"])
    write_envelope(tmp_path, content, version=2)
    with pytest.raises(VersionError, match="version 2, this program reads 1"):
        load_manifest(tmp_path)


def test_a_directory_that_is_no_model_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="tidemill convert"):
        load_manifest(tmp_path)


def test_a_shard_that_links_out_of_the_model_is_refused(model: Path, tmp_path: Path) -> None:
    directory = rewritten(model, tmp_path / "m", lambda _: None)
    (shard,) = (directory / "shards").iterdir()
    outside = tmp_path / "outside.arrow"
    shard.rename(outside)
    shard.symlink_to(outside)
    with pytest.raises(FormatError, match="leads out"):
        load_manifest(directory)


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_loop])
@pytest.mark.parametrize("name", [MANIFEST_FILE, "shards/00000.arrow", "tokenizer.json"])
def test_what_is_no_regular_file_is_refused(
    model: Path, tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    """A FIFO would be waited for for ever."""
    path = rewritten(model, tmp_path / "m", lambda _: None) / name
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(FormatError, match=f"{name} (is not a regular file|cannot be read)"):
        load_manifest(tmp_path / "m")


def test_a_file_in_place_of_the_shards_directory_is_refused(model: Path, tmp_path: Path) -> None:
    directory = rewritten(model, tmp_path / "m", lambda _: None)
    (directory / "shards").rename(tmp_path / "elsewhere")
    (directory / "shards").touch()
    with pytest.raises(FormatError, match=r"shards/00000.arrow cannot be read"):
        load_manifest(directory)


def test_a_small_file_that_links_out_of_the_model_is_refused(model: Path, tmp_path: Path) -> None:
    directory = rewritten(model, tmp_path / "m", lambda _: None)
    (directory / "tokenizer.json").symlink_to(model / "tokenizer.json")
    with pytest.raises(FormatError, match=r"tokenizer.json leads out"):
        load_manifest(directory)
    assert any("leads out" in line for line in verify_model(directory, on_bytes=lambda _: None))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_a_manifest_is_noticed(model: Path, tmp_path: Path, data: st.DataObject) -> None:
    original = (model / MANIFEST_FILE).read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    damaged = bytearray(original)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / MANIFEST_FILE).write_bytes(damaged)
    with pytest.raises(StorageError):
        load_manifest(tmp_path)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)), cut=st.integers(0, 4000))
def test_garbage_and_truncation_are_refused_cheaply(model: Path, tmp_path: Path, content: bytes, cut: int) -> None:
    for data in (content, (model / MANIFEST_FILE).read_bytes()[:cut]):
        (tmp_path / MANIFEST_FILE).write_bytes(data)
        tracemalloc.start()
        with pytest.raises(StorageError):
            load_manifest(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < ALLOCATED_MAX


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from(
                ["offset", "stored_bytes", "bytes", "bundle_start", "bundle_stop", "table", "plane", "shard"]
            ),
            st.integers(-(1 << 62), 1 << 62),
        ),
        min_size=1,
        max_size=3,
    ),
    index=st.integers(0, 60),
)
def test_random_extents_never_pass_as_others(
    model: Path, tmp_path: Path, fields: list[tuple[str, int]], index: int
) -> None:
    content = json.loads((model / MANIFEST_FILE).read_bytes())["manifest"]
    before = dict(content["extents"][index])
    content["extents"][index].update(dict(fields))
    write_envelope(tmp_path, json.dumps(content).encode())
    if content["extents"][index] == before:
        return
    with pytest.raises(StorageError):
        load_manifest(tmp_path)


def test_damaged_weights_are_never_handed_out(model: Path, tmp_path: Path) -> None:
    manifest = load_manifest(model)
    source = model / manifest.shards[0].file
    copy = rewritten(model, tmp_path / "m", lambda _: None)
    target = copy / manifest.shards[0].file
    rng = np.random.default_rng(0)
    for index in rng.choice(len(manifest.extents), 12, replace=False).tolist():
        data = bytearray(source.read_bytes())
        extent = manifest.extents[index]
        data[extent.offset + int(rng.integers(extent.stored_bytes))] ^= 1 << int(rng.integers(8))
        target.unlink()
        target.write_bytes(data)
        with pytest.raises(CorruptDataError, match="checksum"):
            load_one(copy, manifest, index)
        assert any(f"extent {index}" in line for line in verify_model(copy, on_bytes=lambda _: None))


def test_a_flipped_bit_in_an_arrow_header_is_found_by_deep_verification(model: Path, tmp_path: Path) -> None:
    manifest = load_manifest(model)
    copy = rewritten(model, tmp_path / "m", lambda _: None)
    target = copy / manifest.shards[0].file
    data = bytearray(target.read_bytes())
    data[manifest.extents[3].offset - 100] ^= 4
    target.unlink()
    target.write_bytes(data)
    assert verify_model(copy, on_bytes=lambda _: None) != []


def test_a_truncated_shard_is_noticed_at_open(model: Path, tmp_path: Path) -> None:
    copy = rewritten(model, tmp_path / "m", lambda _: None)
    (shard,) = (copy / "shards").iterdir()
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[:-1])
    with pytest.raises(FormatError, match="the manifest says"):
        load_manifest(copy)


def load_one(directory: Path, manifest: Manifest, index: int) -> None:
    arena = np.zeros(manifest.extents[index].bytes, np.uint8)
    load_extents(directory, manifest, [index], arena, [0])


@pytest.mark.parametrize("name", [MANIFEST_FILE, "shards"])
def test_nothing_of_a_model_is_reached_by_a_link_out_of_it(model: Path, tmp_path: Path, name: str) -> None:
    directory = rewritten(model, tmp_path / "m", lambda _: None)
    (directory / name).rename(tmp_path / name)
    (directory / name).symlink_to(tmp_path / name)
    with pytest.raises(FormatError, match=r"leads out of the model's directory, to .*; expected a file inside .*: put"):
        load_manifest(directory)
