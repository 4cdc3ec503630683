"""Small checkpoints of several families, converted, in every arrangement: equal tokens and equal bits of the logits."""

from pathlib import Path

import pytest
import torch

from tests.fakes.checkpoints import save_checkpoint
from tests.system.engines import arena_of, checksums_of, options
from tidemill.runtime.engine import Engine
from tidemill.storage.convert.convert import convert_model

PROMPT = [1, 17, 99, 4, 150, 33, 33, 8, 120, 77, 64, 3, 190, 52, 21, 6, 87, 111, 5, 140]
COUNT = 8
ARRANGEMENTS = [
    (share, launcher, load_mode)
    for share in (0.75, 0.5, 0.25, 0.0)
    for launcher, load_mode in (("in-process", "direct"), ("in-process", "staged"), ("in-process", "buffered"))
]


@pytest.fixture(
    scope="module", params=[("llama-3", torch.bfloat16), ("qwen3", torch.float16), ("gemma3", torch.float32)],
    ids=lambda param: param[0],
)  # fmt: skip
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints") / "hf"
    save_checkpoint(directory, *request.param)
    return directory


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_every_arrangement_gives_equal_bits(checkpoint: Path, codec: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    convert_model(checkpoint, model, codec=codec)
    with Engine.open(options(model, launcher="in-process")) as engine:
        expected = checksums_of(engine, PROMPT, COUNT)
    arrangements = [*ARRANGEMENTS, (0.3, "local", "direct")]
    for share, launcher, load_mode in arrangements:
        chosen = options(model, launcher=launcher, load_mode=load_mode, arena=arena_of(model, share))  # type: ignore[arg-type]
        with Engine.open(chosen) as engine:
            assert checksums_of(engine, PROMPT, COUNT) == expected, (share, launcher, load_mode)
