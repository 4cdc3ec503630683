"""A small checkpoint, and a copy of it that a test may damage."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.fakes.checkpoints import save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hf") / "model"
    save_checkpoint(directory, "smollm2", torch.bfloat16)
    return directory


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))
