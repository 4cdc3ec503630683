import shutil
from pathlib import Path

import pytest

from tidemill.runtime.stress.pipeline.scratch_model import scratch_model
from tidemill.runtime.tuning.scratch_file import NoScratchSpaceError
from tidemill.storage.deep_check import check_extents, check_shard
from tidemill.storage.manifest_file import load_manifest


@pytest.mark.slow
def test_a_scratch_model_is_whole_and_is_removed(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with scratch_model(tmp_path, 20 << 20, lambda *done: told.append(done)) as model:
        manifest = load_manifest(model)
        assert manifest.bytes_of(manifest.layer_extents) >= 20 << 20
        assert check_extents(model, manifest) == check_shard(model, manifest, 0) == []
    assert told[-1][0] == told[-1][1]
    assert list(tmp_path.iterdir()) == []


def test_more_than_there_is_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(NoScratchSpaceError, match="give a smaller --size"),
        scratch_model(tmp_path, shutil.disk_usage(tmp_path).total, lambda *_: None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
