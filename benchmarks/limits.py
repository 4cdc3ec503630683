"""Control groups of our own for one process tree: a memory limit and a throttle on reads, v1 or v2.

What the machine doesn't let us impose (no root, no controller, no such drive) is said in `missing`, and the rest holds.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
REMOVE_DEADLINE_S = 10.0  # the kernel gives a group's memory back shortly after its last process
JOIN = 'for group in $TIDEMILL_GROUPS; do echo $$ > "$group/cgroup.procs" || exit 125; done; exec "$@"'


@dataclass(frozen=True)
class Limits:
    """None: not limited. `read_from` is a path on the file system whose drive is throttled."""

    memory_bytes: int | None
    read_bytes_per_s: int | None
    read_from: Path


@dataclass(frozen=True)
class Roots:
    """Where groups are made: the same directory for v2. None: there is no such controller, or it is not ours."""

    memory: Path | None
    blkio: Path | None
    unified: bool


@dataclass(frozen=True)
class Control:
    """`text` goes to a file of a group; `what` is told when it can't. No file: the group alone is made. `only_swap`: of
    no concern on a machine without swap."""

    group: Path
    file: str
    text: str
    what: str
    only_swap: bool = False


@dataclass(frozen=True)
class Usage:
    """Of the whole tree, page cache that it caused included. `limit_hits`: how often memory had to be reclaimed to stay
    below the ceiling. None: not measured."""

    peak_bytes: int | None
    limit_hits: int | None
    oom_kills: int


class LimitedGroup:
    """A context manager; leaving it kills what is left in its groups and removes them."""

    def __init__(self, limits: Limits, roots: Roots | None = None) -> None:
        self.missing: list[str] = []
        self._limits = limits
        self._roots = find_roots() if roots is None else roots
        self._groups: list[Path] = []

    def __enter__(self) -> "LimitedGroup":
        try:
            for control in plan_controls(self._limits, self._roots, f"tidemill-bench-{os.getpid()}", self.missing):
                self._impose(control)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._remove()

    def wrap(self, command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """A command that joins the groups before it becomes `command`, and what it needs in its environment."""
        if not self._groups:
            return list(command), {}
        return ["/bin/sh", "-c", JOIN, "join", *command], {"TIDEMILL_GROUPS": " ".join(map(str, self._groups))}

    def usage(self) -> Usage:
        if self._roots.memory is None or not self._groups:
            return Usage(None, None, 0)
        group = self._groups[0]
        peak = _read(group / ("memory.peak" if self._roots.unified else "memory.max_usage_in_bytes"))
        events = _read(group / ("memory.events" if self._roots.unified else "memory.oom_control"))
        hits = str(count_events(events, "max")) if self._roots.unified else _read(group / "memory.failcnt")
        return Usage(int(peak) if peak else None, int(hits) if hits else None, count_events(events, "oom_kill"))

    def kill(self) -> None:
        for pid in {pid for group in self._groups for pid in _read(group / "cgroup.procs").split()}:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has just ended

    def _impose(self, control: Control) -> None:
        try:
            if control.group not in self._groups:
                control.group.mkdir()
                self._groups.append(control.group)
            if control.file and not (control.only_swap and not _has_swap()):
                (control.group / control.file).write_text(control.text)
        except OSError as error:
            self.missing.append(f"{control.what}: {error.strerror} ({control.group / control.file})")

    def _remove(self) -> None:
        deadline = time.monotonic() + REMOVE_DEADLINE_S
        while self._groups:
            self.kill()
            try:
                self._groups[-1].rmdir()
                self._groups.pop()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def find_roots(mount: Path = MOUNT) -> Roots:
    """The controllers of this machine that we may make groups under. v1 wins where both are mounted, as systems that
    mount both give the controllers to v1."""
    if (mount / "memory" / "cgroup.procs").exists() or (mount / "blkio" / "cgroup.procs").exists():
        return Roots(_writable(mount / "memory"), _writable(mount / "blkio"), unified=False)
    controllers = _read(mount / "cgroup.controllers").split()
    _delegate(mount, controllers)
    root = _writable(mount)
    return Roots(root if "memory" in controllers else None, root if "io" in controllers else None, unified=True)


def plan_controls(limits: Limits, roots: Roots, name: str, missing: list[str]) -> list[Control]:
    """What is to be written where, the memory's group first; `missing` is told what can't be. The memory group is made
    even without a limit: it measures."""
    controls: list[Control] = []
    if roots.memory is not None:
        controls += _memory_controls(limits.memory_bytes, roots.memory / name, roots.unified)
    elif limits.memory_bytes is not None:
        missing.append("the memory ceiling: no memory control group can be made here (it takes root)")
    if limits.read_bytes_per_s is not None:
        drive, rate = find_drive(limits.read_from), limits.read_bytes_per_s
        if drive is None:
            missing.append(f"the throttle on reads: no drive is known under {limits.read_from}")
        elif roots.blkio is None:
            missing.append("the throttle on reads: no I/O control group can be made here (it takes root)")
        elif roots.unified:
            controls.append(Control(roots.blkio / name, "io.max", f"{drive} rbps={rate}", "the throttle on reads"))
        else:
            file = "blkio.throttle.read_bps_device"
            controls.append(Control(roots.blkio / name, file, f"{drive} {rate}", "the throttle on reads"))
    return controls


def _memory_controls(limit: int | None, group: Path, unified: bool) -> list[Control]:
    controls = [Control(group, "", "", "a group to measure memory")]
    if limit is not None:
        file = "memory.max" if unified else "memory.limit_in_bytes"
        controls.append(Control(group, file, str(limit), "the memory ceiling"))
        file, text = ("memory.swap.max", "0") if unified else ("memory.memsw.limit_in_bytes", str(limit))
        controls.append(Control(group, file, text, "the ceiling on swap", only_swap=True))
    return controls


def find_drive(path: Path) -> str | None:
    """`major:minor` of the whole drive under a file system; None for one that has none of its own (tmpfs, overlay)."""
    device = path.stat().st_dev
    entry = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not entry.exists():
        return None
    entry = entry.resolve()
    return _read((entry.parent if (entry / "partition").exists() else entry) / "dev").strip() or None


def count_events(events: str, name: str) -> int:
    """Of `memory.events` (v2) or `memory.oom_control` (v1), lines of a name and a number."""
    pairs = (line.split() for line in events.splitlines())
    return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == name)


def _delegate(mount: Path, controllers: Sequence[str]) -> None:
    for controller in ("memory", "io"):
        try:
            if controller in controllers:
                (mount / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            pass  # found out, and told, when the group's file isn't there


def _has_swap() -> bool:
    return len(_read(Path("/proc/swaps")).splitlines()) > 1


def _writable(directory: Path) -> Path | None:
    return directory if os.access(directory, os.W_OK) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
