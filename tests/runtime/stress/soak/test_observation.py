"""What is observed is what is there: processes by their mark, descriptors, regions, threads, files."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tidemill.runtime.region import Region
from tidemill.runtime.stress.soak.grounds import MARK, Grounds
from tidemill.runtime.stress.soak.observation import end_marked, marked_processes, observe, show_stacks


@pytest.mark.slow
def test_processes_with_the_mark_are_found_dead_ones_too_and_ended(tmp_path: Path) -> None:
    program = "import os, subprocess, sys; subprocess.Popen(['true']); print('x', flush=True); sys.stdin.read()"
    with Grounds(tmp_path) as grounds:
        assert marked_processes(grounds.mark) == {}
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=grounds.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        while "dead, not waited for" not in marked_processes(grounds.mark).values():
            os.sched_yield()
        found = marked_processes(grounds.mark)
        assert process.pid in found
        assert len(found) == 2
        assert f"process {process.pid} thread {process.pid}" in show_stacks([process.pid])
        end_marked(grounds.mark)
        assert process.wait() == -signal.SIGKILL
        process.stdin.close()
        process.stdout.close()
        assert marked_processes(grounds.mark) == {}
    assert not grounds.path.exists()


def test_descriptors_regions_threads_and_files_of_a_process_are_counted(tmp_path: Path) -> None:
    with Grounds(tmp_path) as grounds:
        before = observe(grounds, os.getpid())
        region = Region.create("probe", 4096, tmp_path)
        held, other = os.pipe()
        (grounds.run_directories / "1-abc").mkdir(parents=True)
        (grounds.temporary / "left").touch()
        going_on = threading.Event()
        thread = threading.Thread(target=going_on.wait)
        thread.start()
        now = observe(grounds, os.getpid())
        going_on.set()
        thread.join()
        for fd in (held, other):
            os.close(fd)
        assert now.regions["probe"] == 1
        region.close()
        assert now.descriptors["/memfd:tidemill-probe"] == 2  # its own, and that of the mapping
        assert now.descriptors["pipe"] == before.descriptors.get("pipe", 0) + 2
        assert now.threads == before.threads + 1
        assert (now.run_directories, now.files) == (("1-abc",), ("left",))
        grounds.empty()
        after = observe(grounds, os.getpid())
        assert "probe" not in after.regions
        assert (after.run_directories, after.files) == ((), ())


def test_the_environment_of_a_campaign_gives_commands_no_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_JSON", "1")
    with Grounds(tmp_path) as grounds:
        environment = grounds.environment()
        assert {name for name in environment if name.startswith("TIDEMILL_")} == {MARK}
        assert environment["XDG_RUNTIME_DIR"] == str(grounds.runs)
