from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.layouts import write_blocky_model
from tests.fakes.lossy_models import HALF_OF
from tests.fakes.models import write_tiny_model
from tests.system.engines import options
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.options import check_options
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.draft_model import DraftModelError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `raw`, `planes` and `channels`."""
    directory = tmp_path_factory.mktemp("models")
    write_tiny_model(directory / "raw")
    write_tiny_model(directory / "planes", codec="bf16-planes")
    write_blocky_model(directory / "channels", LayoutChoice("input-channel", 1))
    return directory


def check(model: Path, draft: DraftOptions) -> DraftOptions:
    return check_options(replace(options(model), draft=draft), explicit_context=True).draft


@pytest.mark.parametrize(
    ("draft", "text"),
    [
        (DraftOptions(kind="tree"), "draft is 'tree', accepted: auto, none, ngram, planes, model"),  # type: ignore[arg-type]
        (DraftOptions(kind="model"), "write --draft model:PATH"),
        (DraftOptions(kind="ngram", model=Path("x")), "write --draft model:PATH"),
        (DraftOptions(length=4), "--draft-length needs drafts"),
        (DraftOptions(kind="ngram", length=16), "draft length is 16, accepted: 1 to 15"),
        (DraftOptions(kind="ngram", length=0), "draft length is 0, accepted: 1 to 15"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_accepted(models: Path, draft: DraftOptions, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check(models / "planes", draft)


@pytest.mark.parametrize("name", ["raw", "channels"])
def test_drafts_from_plane_0_need_planes_and_the_dense_layout(models: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"Convert it: tidemill convert SOURCE .* --codec bf16-planes"):
        check(models / name, DraftOptions(kind="planes"))
    assert check(models / "planes", DraftOptions(kind="planes", length=15)).length == 15


def test_a_draft_model_is_checked_against_the_model_and_its_context(models: Path) -> None:
    check(models / "planes", DraftOptions(kind="model", model=models / "raw"))
    with pytest.raises(DraftModelError, match="is the model itself"):
        check(models / "raw", DraftOptions(kind="model", model=models / "raw"))


def test_selections_refuse_drafts_and_turn_auto_off(models: Path) -> None:
    selected = replace(options(models / "channels"), selection=HALF_OF["channels"])
    with pytest.raises(ValueError, match="--select leaves weights out"):
        check_options(replace(selected, draft=DraftOptions(kind="ngram")), explicit_context=True)
    auto = replace(selected, draft=DraftOptions(kind="auto"))
    assert check_options(auto, explicit_context=True).draft == DraftOptions()
    assert check(models / "channels", DraftOptions(kind="auto")).kind == "auto"
