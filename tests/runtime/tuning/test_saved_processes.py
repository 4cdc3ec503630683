from pathlib import Path

import pytest

from tidemill.runtime.tuning.saved_processes import find_processes, processes_path, remember_processes

SIZES = {"engine": 80 << 20, "compute": 140 << 20}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_last_run_is_remembered() -> None:
    assert find_processes() == {}
    remember_processes(SIZES)
    assert find_processes() == SIZES
    larger = {**SIZES, "compute": 150 << 20}
    remember_processes(larger)
    assert find_processes() == larger


def test_small_changes_are_not_written() -> None:
    remember_processes(SIZES)
    remember_processes({**SIZES, "engine": 81 << 20})
    assert find_processes() == SIZES


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"engine": "big"}', b'{"engine": -1}', b"\xff"])
def test_a_damaged_file_is_as_none_and_is_replaced(content: bytes) -> None:
    remember_processes(SIZES)
    processes_path().write_bytes(content)
    assert find_processes() == {}
    remember_processes(SIZES)
    assert find_processes() == SIZES


def test_a_cache_that_cannot_be_written_is_borne(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no directory")
    remember_processes(SIZES)
    assert find_processes() == {}
