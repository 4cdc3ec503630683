"""Guards for every test: nothing is left behind, nothing bare is imported, caches are the test run's own."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path

import psutil
import pytest

from tidemill.runtime.environment import use_kernel_settings
from tidemill.runtime.run_directory import runs_directory

# numba reads these when it is imported, which test modules do: before that, once, here.
use_kernel_settings(min(2, len(os.sched_getaffinity(0))))
os.environ["HF_HUB_OFFLINE"] = "1"  # no test goes to the network
# Run directories of this test run alone, so that the guard below does not see other engines of this user.
_RUNTIME = tempfile.TemporaryDirectory(prefix="tidemill-tests-")
os.environ["XDG_RUNTIME_DIR"] = _RUNTIME.name
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
# Where nothing may be written beside sources, processes that tests start would compile our modules at every start (a
# fifth of a small run); elsewhere it may.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ["PYTHONPYCACHEPREFIX"] = f"{_RUNTIME.name}/bytecode"


# What a shell had us ignore (it began us in its background, or under nohup) does nothing to us, but the processes that
# tests start hear it as from a terminal: a handler, unlike an ignored signal, is not inherited.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def pytest_report_header() -> str:
    return f"kernel cache: {os.environ['NUMBA_CACHE_DIR']}"


def pytest_sessionfinish() -> None:
    bare = {"storage", "actors", "runtime"} & set(sys.modules)
    assert not bare, f"imported by a bare name, so loaded twice: {sorted(bare)}"
    _RUNTIME.cleanup()


@pytest.fixture(scope="session")
def lossy_models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """By layout; to be read only. Made once, as they are calibrated."""
    from tests.fakes.lossy_models import write_lossy_models  # which imports numba

    return write_lossy_models(tmp_path_factory.mktemp("lossy"))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No thread, child process, file descriptor or run directory outlives its test."""
    threads, fds, runs = set(threading.enumerate()), _open_files(), _runs()
    yield
    left = [
        t.name for t in set(threading.enumerate()) - threads if t.is_alive() and not t.name.startswith("pytest_timeout")
    ]
    assert not left, f"threads left behind: {left}"
    children = _children()
    assert not children, f"processes left behind: {children}"
    assert _runs() == runs, f"run directories left behind: {_runs() - runs}"
    more = {fd: target for fd, target in _open_files().items() if fds.get(fd) != target and "tidemill" in target}
    assert not more, f"file descriptors left behind: {more}"


def _children() -> list[list[str]]:
    """Their command lines. Looking at every process of the machine takes 2 ms, so the kernel's own list comes first."""
    try:
        if not any(Path(task, "children").read_bytes() for task in glob("/proc/self/task/*")):
            return []
    except OSError:
        pass  # a kernel without such lists, or a thread that has just ended
    return [child.cmdline() for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def _open_files() -> dict[int, str]:
    files: dict[int, str] = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            files[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
    return files


def _runs() -> set[Path]:
    root = runs_directory()
    return set(root.iterdir()) if root.is_dir() else set()
