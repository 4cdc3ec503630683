import os
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.model_files import check_model_file, read_model_file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "own").write_bytes(b"text")
    return tmp_path / "model"


def test_a_file_of_a_model_is_read_and_none_is_none(model: Path) -> None:
    assert check_model_file(model, "own") == 4
    assert read_model_file(model, "own", bytes_max=4) == b"text"
    assert read_model_file(model, "none", bytes_max=4) is None


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "link", "chain", "folder/outside"])
def test_what_leads_out_of_a_model_is_refused_and_named(model: Path, name: str) -> None:
    (model / "link").symlink_to("../outside")
    (model / "chain").symlink_to("link")
    (model / "folder").symlink_to("..")
    for act in (check_model_file, lambda *given: read_model_file(*given, bytes_max=100)):
        with pytest.raises(FormatError, match=r"leads out of the model's directory, to /.*; expected .*: put the file"):
            act(model, name)


@pytest.mark.parametrize("name", ["fifo", "folder", "loop", "own/under", "nul\0"])
def test_what_is_no_regular_file_is_refused(model: Path, name: str) -> None:
    os.mkfifo(model / "fifo")
    (model / "folder").mkdir()
    (model / "loop").symlink_to("loop")
    with pytest.raises(FormatError, match=r"is not a regular file|cannot be read"):
        check_model_file(model, name)


def test_a_huge_file_is_refused_before_it_is_read(model: Path) -> None:
    os.truncate(model / "own", 1 << 40)
    with pytest.raises(FormatError, match="has 1099511627776 bytes, at most 100 are allowed"):
        read_model_file(model, "own", bytes_max=100)


def test_a_link_within_a_model_and_to_a_model_are_fine(model: Path, tmp_path: Path) -> None:
    (model / "link").symlink_to("own")
    (tmp_path / "way").symlink_to(model)
    assert read_model_file(tmp_path / "way", "link", bytes_max=4) == b"text"


def test_a_whole_model_may_be_reached_by_a_link_and_have_links_within(tmp_path: Path) -> None:
    manifest = write_tiny_model(tmp_path / "m", layers=1, extent_bytes=65536)
    (shard,) = (tmp_path / "m" / "shards").iterdir()
    shard.rename(tmp_path / "m" / "blob")
    shard.symlink_to("../blob")
    (tmp_path / "link").symlink_to("m")
    assert load_manifest(tmp_path / "link") == manifest
