"""What processes weigh: proportional set sizes of a tree, its peak, cgroup limits and out-of-memory counters."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_S = 0.5
SAMPLE_SHARE = 0.02  # of one core, at most, for watching memory
CGROUP = Path("/sys/fs/cgroup")
MADV_DONTNEED = 4


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes of one process: its proportional share of everything, and the part of it that is shared memory
    (regions)."""

    total_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """`overhead_bytes`: the highest sum of what is neither shared memory nor KV cache. None where it can't be
    measured."""

    total_bytes: int | None
    overhead_bytes: int | None
    process_bytes: Mapping[str, int]


def parse_rollup(text: str) -> ProcessMemory:
    """From the text of /proc/PID/smaps_rollup."""
    fields = {}
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    return ProcessMemory(fields["Pss"], fields.get("Pss_Shmem", 0))


def process_memory(process_id: int) -> ProcessMemory | None:
    """None when the process is gone or the system does not tell."""
    try:
        return parse_rollup(Path(f"/proc/{process_id}/smaps_rollup").read_text())
    except (OSError, KeyError, ValueError, IndexError):
        return None


def release_freed_memory() -> None:
    """What this process's allocator keeps for later goes back to the system, where the C library can do that."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def release_code(library: str) -> int:
    """Bytes of a loaded library's machine code that this process no longer maps; what is still called comes back from
    the file. Does nothing where the system does not tell what is mapped. `library`: how its file's name begins."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return 0
    released = 0
    for line in lines:
        span, access, _, _, _, *path = line.split(maxsplit=5)
        if access == "r-xp" and path and Path(path[0]).name.startswith(library):  # nothing else is sure to be clean
            begin, end = (int(address, 16) for address in span.split("-"))
            failed = ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)
            released += 0 if failed else end - begin
    return released


class PeakSampler:
    """Samples a tree of processes from a thread of its own; `kv_bytes()` tells how much of it is KV cache now."""

    def __init__(self, process_ids: Callable[[], Mapping[str, int]], kv_bytes: Callable[[], int]) -> None:
        self._process_ids = process_ids
        self._kv_bytes = kv_bytes
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._total = 0
        self._overhead = 0
        self._processes: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="memory-sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def peak(self) -> PeakMemory:
        """The peak so far, this moment included."""
        self._sample()
        with self._lock:
            if not self._total:
                return PeakMemory(None, None, {})
            return PeakMemory(self._total, self._overhead, dict(self._processes))

    def _run(self) -> None:
        pause_s = SAMPLE_S
        while not self._stop.wait(pause_s):
            begun_s = time.thread_time()
            self._sample()
            # The kernel walks every page of every process for a sample: large arenas are looked at less often.
            pause_s = max(SAMPLE_S, (time.thread_time() - begun_s) / SAMPLE_SHARE)

    def _sample(self) -> None:
        sizes = {name: process_memory(process_id) for name, process_id in self._process_ids().items()}
        known = {name: size for name, size in sizes.items() if size is not None}
        total = sum(size.total_bytes for size in known.values())
        private = {name: size.total_bytes - size.shared_bytes for name, size in known.items()}
        overhead = sum(private.values()) - self._kv_bytes()
        with self._lock:
            self._total = max(self._total, total)
            self._overhead = max(self._overhead, overhead)
            if known:
                self._processes = private


def available_bytes() -> int:
    """What this process tree could still take: free memory of the machine, or of its memory cgroups if that is less."""
    rooms = [room for path in _memory_cgroups() if (room := _read_room(path)) is not None]
    return min([int(psutil.virtual_memory().available), *rooms])


def cgroup_limit_bytes() -> int | None:
    """The tightest memory limit of this process's cgroups (v1 or v2), or None."""
    limits = [limit for path in _memory_cgroups() if (limit := _read_limit(path)) is not None]
    return min(limits, default=None)


def out_of_memory_kills() -> int | None:
    """How often the kernel killed in this process's own memory cgroup; None where it is not counted."""
    for path in _memory_cgroups():
        for name in ("memory.events", "memory.oom_control"):
            try:
                fields = dict(line.split() for line in (path / name).read_text().splitlines() if len(line.split()) == 2)
                return int(fields["oom_kill"])
            except (OSError, KeyError, ValueError):
                continue
    return None


def parse_cgroups(text: str) -> list[tuple[str, str]]:
    """(controllers, path) of each line of /proc/self/cgroup; controllers are empty for v2."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return [(parts[1], parts[2]) for parts in lines if len(parts) == 3]


def _memory_cgroups() -> Iterable[Path]:
    """This process's memory cgroup and its ancestors, nearest first."""
    try:
        entries = parse_cgroups(Path("/proc/self/cgroup").read_text())
    except OSError:
        return
    for controllers, name in entries:
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUP / "memory" if controllers else CGROUP
        path = root / name.lstrip("/")
        while path.is_relative_to(root):
            if path.is_dir():
                yield path
            path = path.parent


def _read_room(path: Path) -> int | None:
    """What is left below a cgroup's limit when its page cache is given back; None without a limit."""
    limit = _read_limit(path)
    for name in ("memory.current", "memory.usage_in_bytes"):
        try:
            used = int((path / name).read_text())
            lines = (line.split() for line in (path / "memory.stat").read_text().splitlines())
            stat = {words[0]: int(words[1]) for words in lines if len(words) == 2}
        except (OSError, ValueError):
            continue
        # v1 counts a group's own pages without a prefix, with those of its children (as `used` does) under total_.
        prefix = "total_" if "total_inactive_file" in stat else ""
        cache = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
        return None if limit is None else max(0, limit - used + cache)
    return limit


def _read_limit(path: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            text = (path / name).read_text().strip()
            limit = int(text) if text != "max" else None
        except (OSError, ValueError):
            continue
        return limit if limit is not None and limit < 1 << 60 else None
    return None
