"""Groups are planned for v1 and v2, hold what they limit, and are gone afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.limits import (
    MOUNT,
    Control,
    LimitedGroup,
    Limits,
    Roots,
    count_events,
    find_drive,
    find_roots,
    plan_controls,
)

NOWHERE = Roots(None, None, unified=True)
needs_groups = pytest.mark.skipif(find_roots().memory is None, reason="no memory control group can be made here")


def written(controls: list[Control]) -> list[tuple[str, str]]:
    return [(str(control.group / control.file), control.text) for control in controls if control.file]


def test_v1_limits_memory_and_reads_in_a_group_each(tmp_path: Path) -> None:
    missing: list[str] = []
    roots = Roots(Path("/m"), Path("/b"), unified=False)
    drive = find_drive(Path("/"))
    if drive is None:
        pytest.skip("the root file system has no drive of its own")
    plan = plan_controls(Limits(1000, 2000, Path("/")), roots, "own", missing)
    assert written(plan) == [
        ("/m/own/memory.limit_in_bytes", "1000"),
        ("/m/own/memory.memsw.limit_in_bytes", "1000"),
        ("/b/own/blkio.throttle.read_bps_device", f"{drive} 2000"),
    ]
    assert missing == []


def test_v2_limits_both_in_one_group() -> None:
    missing: list[str] = []
    roots = Roots(Path("/g"), Path("/g"), unified=True)
    drive = find_drive(Path("/"))
    if drive is None:
        pytest.skip("the root file system has no drive of its own")
    plan = plan_controls(Limits(1000, 2000, Path("/")), roots, "own", missing)
    expected = [("memory.max", "1000"), ("memory.swap.max", "0"), ("io.max", f"{drive} rbps=2000")]
    assert written(plan) == [(f"/g/own/{file}", text) for file, text in expected]


def test_without_a_limit_a_group_only_measures() -> None:
    plan = plan_controls(Limits(None, None, Path("/")), Roots(Path("/g"), Path("/g"), unified=True), "own", [])
    assert [(control.group, control.file) for control in plan] == [(Path("/g/own"), "")]


def test_what_cannot_be_imposed_is_said_and_the_command_runs_as_it_is() -> None:
    with LimitedGroup(Limits(1000, 2000, Path("/")), NOWHERE) as group:
        assert [what.split(":")[0] for what in group.missing] == ["the memory ceiling", "the throttle on reads"]
        assert group.wrap(["program", "argument"]) == (["program", "argument"], {})
        assert (group.usage().peak_bytes, group.usage().oom_kills) == (None, 0)


def test_a_file_system_without_a_drive_cannot_be_throttled() -> None:
    missing: list[str] = []
    roots = Roots(None, Path("/b"), unified=False)
    assert plan_controls(Limits(None, 2000, Path("/proc")), roots, "own", missing) == []
    assert missing == ["the throttle on reads: no drive is known under /proc"]


def test_a_group_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "nothing", None, unified=True)
    with LimitedGroup(Limits(1000, None, tmp_path), roots) as group:
        assert any(what.startswith("the memory ceiling: No such file") for what in group.missing)


def test_v1_controllers_are_found_before_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory io pids")
    (tmp_path / "cgroup.subtree_control").write_text("")
    assert find_roots(tmp_path) == Roots(tmp_path, tmp_path, unified=True)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "cgroup.procs").write_text("")
    assert find_roots(tmp_path) == Roots(tmp_path / "memory", None, unified=False)
    assert find_roots(tmp_path / "nothing") == NOWHERE


@pytest.mark.parametrize(
    ("events", "kills"),
    [
        ("low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n", 1),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2),
        ("", 0),
    ],
)
def test_kills_for_memory_are_counted(events: str, kills: int) -> None:
    assert count_events(events, "oom_kill") == kills


@needs_groups
@pytest.mark.system
def test_a_tree_beyond_its_ceiling_is_killed_and_its_groups_are_removed(tmp_path: Path) -> None:
    child = "import sys, subprocess; sys.exit(subprocess.call([sys.executable, '-c', 'b = bytearray(200 << 20)']))"
    with LimitedGroup(Limits(100 << 20, None, tmp_path)) as group:
        assert group.missing == []
        command, environment = group.wrap([sys.executable, "-c", child])
        done = subprocess.run(command, env={**os.environ, **environment}, check=False)
        assert done.returncode != 0
        usage = group.usage()
    assert usage.oom_kills == 1
    assert usage.peak_bytes is not None
    assert 90 << 20 <= usage.peak_bytes <= 100 << 20
    assert not list(MOUNT.glob(f"**/tidemill-bench-{os.getpid()}"))


@needs_groups
@pytest.mark.system
def test_what_still_runs_is_ended_with_its_group(tmp_path: Path) -> None:
    with LimitedGroup(Limits(100 << 20, None, tmp_path)) as group:
        command, environment = group.wrap([sys.executable, "-c", "print('up', flush=True); input()"])
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment}
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
    assert process.wait(timeout=10) == -9
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()
    assert not list(MOUNT.glob(f"**/tidemill-bench-{os.getpid()}"))
