import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from tests.fakes.checkpoints import save_checkpoint

REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_a_model_of_the_hub_cache_is_pulled_offline_into_our_own_directory(tmp_path: Path) -> None:
    """The standard cache layout, read by the library itself; nothing is written into it."""
    repository = tmp_path / "hf" / "hub" / "models--nobody--tiny"
    snapshot = repository / "snapshots" / REVISION
    save_checkpoint(snapshot, "qwen2", torch.bfloat16)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    before = sorted(path.name for path in snapshot.iterdir())
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "tidemill.runtime.cli.main"]

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)

    done = run("pull", "nobody/tiny", "--offline")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in snapshot.iterdir()) == before
    (model,) = json.loads(run("list", "--json").stdout)
    assert (model["name"], model["problem"]) == ("nobody--tiny", None)
    shutil.rmtree(tmp_path / "hf")
    assert run("pull", "nobody/tiny", "--offline").returncode == 0  # it is there already
    assert "not in the Hugging Face cache" in run("pull", "nobody/other", "--offline").stderr
