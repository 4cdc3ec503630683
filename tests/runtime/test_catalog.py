from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill.runtime.catalog import (
    UnknownModelError,
    catalog_name,
    describe_model,
    list_models,
    models_directory,
    remove_model,
    resolve_model,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tiny_model(models_directory() / "tiny")


def test_models_are_found_by_name_and_path() -> None:
    assert resolve_model("tiny") == models_directory() / "tiny"
    assert resolve_model(models_directory() / "tiny") == models_directory() / "tiny"


@pytest.mark.parametrize("name", ["nope", "../tiny", "a/b", "", "~"])
def test_an_unknown_name_lists_what_is_there(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"tiny|not a converted model"):
        resolve_model(name)


@pytest.mark.parametrize(
    ("name", "revision", "directory"),
    [
        ("org/name", None, "org--name"),
        ("org/name", "v1.0", "org--name@v1.0"),
        ("org/name", "refs/pr/1", "org--name@refs--pr--1"),
    ],
)
def test_a_model_of_the_hub_is_found_and_removed_by_its_directory_or_id(
    name: str, revision: str | None, directory: str
) -> None:
    assert catalog_name(name, revision) == directory
    write_tiny_model(models_directory() / directory)
    given = f"{name}@{revision}" if revision else name
    assert resolve_model(directory) == resolve_model(given) == models_directory() / directory
    remove_model(given)
    assert [model.name for model in list_models()] == ["tiny"]


def test_a_directory_that_is_no_model_is_told_how_to_become_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="tidemill convert"):
        resolve_model(tmp_path)


def test_damaged_and_unfinished_models_are_listed_with_their_problem() -> None:
    (models_directory() / "half.partial").mkdir()
    (models_directory() / "broken").mkdir()
    (models_directory() / "broken" / "manifest.json").write_text("{}")
    problems = {model.name: model.problem for model in list_models()}
    assert problems["tiny"] is None
    assert "run the same" in (problems["half.partial"] or "")
    assert "not a valid manifest" in (problems["broken"] or "")


@pytest.mark.parametrize("name", ["..", "../models/tiny", "/etc", "nope"])
def test_only_models_of_the_catalog_are_removed(name: str) -> None:
    with pytest.raises(UnknownModelError):
        remove_model(name)
    assert (models_directory() / "tiny").exists()


def test_a_removed_model_is_gone() -> None:
    assert remove_model("tiny") > 400_000 / 2
    assert list_models() == []


def test_a_description_adds_up() -> None:
    d = describe_model(models_directory() / "tiny")
    assert (d.layers, d.hidden_size, d.vocab_size, d.tied_head) == (4, 64, 96, True)
    assert sum(group.decoded_bytes for group in d.tables) == d.decoded_bytes
    assert sum(sum(group.stored_bytes_per_plane) for group in d.tables) == d.stored_bytes
    assert d.bytes_per_token == sum(g.decoded_bytes for g in d.tables if g.layout != "vector")
    assert d.stored_bytes_per_token == d.bytes_per_token


def test_compressed_tables_are_described_by_what_they_take_on_flash() -> None:
    write_tiny_model(models_directory() / "zstd", codec="zstd")
    d = describe_model(models_directory() / "zstd")
    streamed = [group for group in d.tables if group.layout != "vector" and group.role != "embed"]  # that is row-read
    stored = sum(sum(group.stored_bytes_per_plane) for group in streamed)
    assert d.stored_bytes_per_token == stored != d.bytes_per_token
    assert {group.codec for group in d.tables} == {"raw", "zstd"}
