from pathlib import Path

from benchmarks.page_cache import drop_page_cache


def test_all_of_it_is_dropped_where_that_is_allowed(tmp_path: Path) -> None:
    assert drop_page_cache([], tmp_path / "drop_caches") == ""
    assert (tmp_path / "drop_caches").read_text() == "3\n"


def test_elsewhere_the_models_files_are_dropped_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "model" / "shards").mkdir(parents=True)
    (tmp_path / "model" / "shards" / "0.arrow").write_bytes(b"weights")
    (tmp_path / "model.gguf").write_bytes(b"weights")
    said = drop_page_cache([tmp_path / "model", tmp_path / "model.gguf"], tmp_path / "nothing" / "drop_caches")
    assert said.startswith("an empty page cache: No such file or directory")
    assert (tmp_path / "model.gguf").read_bytes() == b"weights"
