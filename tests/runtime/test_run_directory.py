import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tidemill.runtime.private_files import NotPrivateError
from tidemill.runtime.run_directory import RunDirectory, clean_orphans, find_orphans, runs_directory


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_a_run_directory_is_private_and_not_an_orphan_while_its_engine_lives() -> None:
    run = RunDirectory.create()
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert find_orphans() == []
    run.remove()
    run.remove()
    assert not run.path.exists()


def test_a_directory_of_a_process_that_is_gone_is_cleaned() -> None:
    code = "from tidemill.runtime.run_directory import RunDirectory; print(RunDirectory.create().path)"
    path = Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    assert path.is_dir()
    assert [orphan.path for orphan in find_orphans()] == [path]
    assert [orphan.path for orphan in clean_orphans()] == [path]
    assert find_orphans() == []
    assert not path.exists()


def test_a_reused_process_id_does_not_protect_an_orphan() -> None:
    run = RunDirectory.create()
    (run.path / "pid").write_text(f"{os.getpid()} 12.34")
    assert [orphan.path for orphan in find_orphans()] == [run.path]
    clean_orphans()


def test_a_directory_without_a_readable_pid_file_is_an_orphan() -> None:
    runs_directory().mkdir(0o700)
    (runs_directory() / "broken").mkdir()
    assert [orphan.process_id for orphan in find_orphans()] == [None]
    clean_orphans()


def test_a_directory_whose_pid_file_is_not_written_yet_belongs_to_the_process_in_its_name() -> None:
    runs_directory().mkdir(0o700)
    (runs_directory() / f"{os.getpid()}-abcd").mkdir()
    assert find_orphans() == []


def test_setting_the_clock_makes_no_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.create()
    real = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: real + 3600)
    assert find_orphans() == []
    run.remove()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
def test_a_place_that_others_may_enter_is_refused(mode: int) -> None:
    runs_directory().mkdir()
    runs_directory().chmod(mode)
    with pytest.raises(NotPrivateError, match=f"{stat.S_IMODE(mode):o}, expected"):
        RunDirectory.create()


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    runs_directory().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotPrivateError, match="not a directory of this user alone"):
        RunDirectory.create()


def test_what_a_link_in_the_place_of_the_directory_leads_to_is_not_cleaned(tmp_path: Path) -> None:
    """In a shared temporary directory anybody can make that link, to a home directory say."""
    precious = tmp_path / "elsewhere" / "precious"
    precious.mkdir(parents=True)
    (tmp_path / "elsewhere").chmod(0o700)
    runs_directory().symlink_to(tmp_path / "elsewhere")
    for act in (find_orphans, clean_orphans):
        with pytest.raises(NotPrivateError, match="not a directory of this user alone"):
            act()
    assert precious.is_dir()


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_all_files_of_a_run_are_for_this_user_alone(mask: int) -> None:
    before = os.umask(mask)
    try:
        run = RunDirectory.create()
        run.make_fifo("arena")
        run.create_stderr("arena").close()
        run.create_stderr("arena").close()  # of an actor that is started again
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in run.path.iterdir()}
    assert modes == {"pid": 0o600, "wake-arena": 0o600, "stderr-arena": 0o600}
    assert stat.S_IMODE(runs_directory().stat().st_mode) == 0o700
    run.remove()


def test_a_run_directory_that_others_may_enter_is_not_used_when_found() -> None:
    run = RunDirectory.create()
    assert RunDirectory.find(run.path).path == run.path
    run.path.chmod(0o711)
    with pytest.raises(NotPrivateError, match="711, expected"):
        RunDirectory.find(run.path)
    run.remove()


def test_what_is_no_private_fifo_is_not_opened(tmp_path: Path) -> None:
    run = RunDirectory.create()
    run.make_fifo("arena").chmod(0o622)
    run.fifo("reader").touch(0o600)
    run.fifo("compute").symlink_to(tmp_path / "elsewhere")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotPrivateError, match="622, expected"):
        run.open_fifo("arena")
    with pytest.raises(NotPrivateError, match="not a FIFO"):
        run.open_fifo("reader")
    with pytest.raises(OSError, match="symbolic"):
        run.open_fifo("compute")
    assert len(os.listdir("/proc/self/fd")) == before
    run.remove()
