"""A memory cgroup of the campaign's own, v1 or v2, made below the one that it is in and removed again."""

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tidemill.runtime.memory import CGROUP, parse_cgroups
from tidemill.runtime.stress.soak.observation import send_signal

LIMITS = ("memory.max", "memory.limit_in_bytes")
USAGES = ("memory.current", "memory.usage_in_bytes")
GONE_S = 5.0
STEP_BYTES = 1 << 20


class NoMemoryGroupError(Exception):
    """None can be made here. Says why."""


class MemoryGroup:
    """A context manager; leaving kills what is in it and removes it."""

    def __init__(self) -> None:
        """Raises NoMemoryGroupError."""
        reasons: list[str] = []
        for parent in _parents():
            path = parent / f"tidemill-soak-{os.getpid()}"
            try:
                path.mkdir()
            except OSError as error:
                reasons.append(f"{path}: {error.strerror}")
                continue
            if any((path / name).exists() for name in LIMITS):
                self.path = path
                return
            path.rmdir()
            reasons.append(f"{parent} gives its groups no memory controller")
        raise NoMemoryGroupError("; ".join(reasons) or "this process is in no memory cgroup")

    @property
    def used_bytes(self) -> int:
        return int(self._file(USAGES).read_text())

    @property
    def process_ids(self) -> list[int]:
        return [int(word) for word in (self.path / "cgroup.procs").read_text().split()]

    def set_limit(self, limit_bytes: int | None) -> None:
        """None: no limit. Raises OSError (EBUSY where a v1 group cannot shrink so far)."""
        file = self._file(LIMITS)
        none = "max" if file.name == "memory.max" else "-1"
        file.write_text(none if limit_bytes is None else str(limit_bytes))

    def shrink(self, limit_bytes: int) -> int:
        """The limit nearest to this one that the kernel takes, from it up: v1 refuses what it cannot free, v2 kills."""
        while True:
            try:
                self.set_limit(limit_bytes)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                limit_bytes += STEP_BYTES
            else:
                return limit_bytes

    def __enter__(self) -> "MemoryGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        until = time.monotonic() + GONE_S
        while True:
            for process in self.process_ids:
                send_signal(process, signal.SIGKILL)
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
            else:
                return

    def _file(self, names: tuple[str, ...]) -> Path:
        return next(self.path / name for name in names if (self.path / name).exists())


def _parents() -> Iterator[Path]:
    """Where one might be made: in this process's own group; or beside it, as v2 has no groups in one with processes."""
    entries = []
    with suppress(OSError):
        entries = parse_cgroups(Path("/proc/self/cgroup").read_text())
    for controllers, name in sorted(entries, reverse=True):  # v1's named controllers before v2's empty ones
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUP / "memory" if controllers else CGROUP
        own = root / name.lstrip("/")
        yield from (path for path in (own, own.parent) if path.is_relative_to(root) and path.is_dir())
