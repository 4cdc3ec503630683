"""One private directory per engine: wake FIFOs, the actors' stderr, a pid file. Removed by its creator; orphans by
`clean`."""

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tidemill.runtime.private_files import NotPrivateError, check_private, create_private

PID_FILE = "pid"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run directory whose engine is gone."""

    path: Path
    process_id: int | None


class RunDirectory:
    """0700, its files 0600, named after the engine's process. `remove` may be called twice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls) -> "RunDirectory":
        """Raises NotPrivateError when the directory of all runs is not this user's alone."""
        parent = runs_directory()
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(parent.lstat(), parent, stat.S_IFDIR)
        path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        with create_private(path / PID_FILE) as file:
            file.write(f"{os.getpid()} {_started(os.getpid())}".encode())
        return cls(path)

    @classmethod
    def find(cls, path: Path) -> "RunDirectory":
        """One that another process made. Raises NotPrivateError, FileNotFoundError."""
        check_private(path.lstat(), path, stat.S_IFDIR)
        return cls(path)

    def make_fifo(self, name: str) -> Path:
        path = self.fifo(name)
        os.mkfifo(path, 0o600)
        return path

    def open_fifo(self, name: str) -> int:
        """Read-write, so that opening never waits for the other end, and non-blocking. Raises NotPrivateError."""
        path = self.fifo(name)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            check_private(os.fstat(fd), path, stat.S_IFIFO)
        except NotPrivateError:
            os.close(fd)
            raise
        return fd

    def fifo(self, name: str) -> Path:
        return self.path / f"wake-{name}"

    def stderr(self, name: str) -> Path:
        return self.path / f"stderr-{name}"

    def create_stderr(self, name: str) -> BinaryIO:
        return create_private(self.stderr(name))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def runs_directory() -> Path:
    """`$XDG_RUNTIME_DIR/tidemill`, or a private directory in the temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "tidemill"
    return Path(tempfile.gettempdir()) / f"tidemill-{os.getuid()}"


def find_orphans() -> list[Orphan]:
    """Run directories whose engine has ended, this user's. Read-only.

    Raises NotPrivateError: what another user put in the place of their directory, a link to this user's files say, must
    not be taken for left-overs.
    """
    parent = runs_directory()
    if not os.path.lexists(parent):
        return []
    check_private(parent.lstat(), parent, stat.S_IFDIR)
    orphans: list[Orphan] = []
    for path in sorted(parent.iterdir()):
        owner = _owner(path)
        if owner is None or not _is_running(*owner):
            orphans.append(Orphan(path, owner[0] if owner else None))
    return orphans


def clean_orphans() -> list[Orphan]:
    """Remove what `find_orphans` finds, and return it. Raises NotPrivateError."""
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
