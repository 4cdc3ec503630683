"""A shard's bytes under a manifest that stays right: read, verified and looked at by plain pyarrow."""

import functools
from pathlib import Path

from tests.fakes.models import write_tiny_model
from tests.fuzz.scratch import scratch_directory
from tidemill.storage.deep_check import check_extents, check_shard
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest


@functools.cache
def model() -> tuple[Path, Manifest, bytes]:
    directory = scratch_directory("shard") / "model"
    write_tiny_model(directory, layers=1, extent_bytes=65536, codec="bf16-planes", vocab_size=8)
    manifest = load_manifest(directory)
    return directory, manifest, (directory / manifest.shards[0].file).read_bytes()


def seeds() -> list[bytes]:
    return [model()[2]]


def check(data: bytes) -> None:
    directory, manifest, valid = model()
    (directory / manifest.shards[0].file).write_bytes(data)
    problems = check_shard(directory, manifest, 0) + check_extents(directory, manifest)
    assert data == valid or len(data) < 4096 or all(problems)
    if data == valid:
        assert not problems
