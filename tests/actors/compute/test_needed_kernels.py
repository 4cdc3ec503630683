from pathlib import Path

import msgspec
import pytest

from tests.fakes.models import write_tiny_model
from tidemill.actors.compute.kernels.needed import needed_kernels
from tidemill.storage.manifest import Manifest, Plane


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_tiny_model(tmp_path / "model")


def with_codec(manifest: Manifest, role: str, layout: str, codec: str) -> Manifest:
    tables = tuple(
        msgspec.structs.replace(table, layout=layout, planes=(Plane(codec, table.planes[0].bundle_bytes),))
        if table.role == role
        else table
        for table in manifest.tables
    )
    return msgspec.structs.replace(manifest, tables=tables)


def test_a_dense_model_needs_the_kernels_of_its_kinds_alone(manifest: Manifest) -> None:
    assert list(needed_kernels(manifest)) == sorted(manifest.matrix_kinds)


def test_bundles_need_kernels_by_codec_and_by_what_they_are(manifest: Manifest) -> None:
    (element,) = manifest.matrix_kinds
    channels = with_codec(manifest, "attn_out", "input-channel", "raw-bundles")
    assert list(needed_kernels(channels)) == [element, f"{element}:channels"]
    both = with_codec(channels, "mlp", "neuron", "bf16-bundles")
    assert list(needed_kernels(both)) == sorted([element, f"{element}:channels", "bf16-bundles:neurons"])
