"""One private directory per engine: wake FIFOs, the actors' stderr, a pid file. Removed by its creator; orphans by
`clean`."""

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

PID_FILE = "pid"


class RunDirectoryError(OSError):
    """The place for run directories cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run directory whose engine is gone."""

    path: Path
    process_id: int | None


class RunDirectory:
    """0700, named after the engine's process. `remove` may be called twice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls) -> "RunDirectory":
        """Raises RunDirectoryError when the directory of all runs is not this user's alone."""
        parent = runs_directory()
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(parent)
        path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        (path / PID_FILE).write_text(f"{os.getpid()} {_started(os.getpid())}")
        return cls(path)

    def make_fifo(self, name: str) -> Path:
        path = self.fifo(name)
        os.mkfifo(path, 0o600)
        return path

    def fifo(self, name: str) -> Path:
        return self.path / f"wake-{name}"

    def stderr(self, name: str) -> Path:
        return self.path / f"stderr-{name}"

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def runs_directory() -> Path:
    """`$XDG_RUNTIME_DIR/tidemill`, or a private directory in the temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "tidemill"
    return Path(tempfile.gettempdir()) / f"tidemill-{os.getuid()}"


def find_orphans() -> list[Orphan]:
    """Run directories whose engine has ended, this user's. Read-only."""
    parent = runs_directory()
    if not parent.is_dir():
        return []
    orphans: list[Orphan] = []
    for path in sorted(parent.iterdir()):
        owner = _owner(path)
        if owner is None or not _is_running(*owner):
            orphans.append(Orphan(path, owner[0] if owner else None))
    return orphans


def clean_orphans() -> list[Orphan]:
    """Remove what `find_orphans` finds, and return it."""
    orphans = find_orphans()
    for orphan in orphans:
        shutil.rmtree(orphan.path, ignore_errors=True)
    return orphans


def _owner(path: Path) -> tuple[int, str] | None:
    try:
        process_id, started = (path / PID_FILE).read_text().split()
        return int(process_id), started
    except (OSError, ValueError):
        pass  # an engine may be between making the directory and the pid file: its name tells the pid
    process_id, _, _ = path.name.partition("-")
    return (int(process_id), _started(int(process_id))) if process_id.isdecimal() else None


def _is_running(process_id: int, started: str) -> bool:
    """Whether the very process that wrote the pid file is alive: a reused pid has another start time."""
    return started != "gone" and _started(process_id) == started


def _started(process_id: int) -> str:
    """Clock ticks from boot to its start (field 22 of stat): unlike a time of day, it stays when the clock is set."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "gone"


def _check_private(directory: Path) -> None:
    """In a shared temporary directory anybody can make ours first, and swap what is put there."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RunDirectoryError(
            f"{directory} is not a directory of this user alone (owner {status.st_uid}, mode "
            f"{status.st_mode & 0o777:o}, expected {os.getuid()} and 700); remove it or set XDG_RUNTIME_DIR"
        )
