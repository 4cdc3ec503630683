from pathlib import Path

import pytest

from tests.fakes.layouts import write_blocky_model
from tests.fakes.models import write_tiny_model
from tidemill.storage.arena_plan import align_up
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.plane_bytes import can_draft_planes, plane_bytes


@pytest.mark.parametrize(("codec", "can"), [("bf16-planes", True), ("fp16-planes", True), ("raw", False)])
def test_dense_models_in_planes_can_draft(tmp_path: Path, codec: str, can: bool) -> None:
    assert can_draft_planes(write_tiny_model(tmp_path / "model", codec=codec)) == can


def test_single_bundles_cannot_draft(tmp_path: Path) -> None:
    assert not can_draft_planes(write_blocky_model(tmp_path / "model", LayoutChoice("neuron", 1), codec="bf16-planes"))


def test_the_planes_are_all_that_layers_and_head_take(tmp_path: Path) -> None:
    manifest = write_tiny_model(tmp_path / "model", codec="bf16-planes", extent_bytes=1 << 16)
    whole = [*manifest.layer_extents, *manifest.head_extents]
    planes = [plane_bytes(manifest, plane) for plane in (0, 1)]
    assert sum(planes) == sum(align_up(manifest.extents[i].bytes) for i in whole)
    assert planes[0] > planes[1] > 0
    assert plane_bytes(manifest, 2) == 0
