"""What of a campaign's processes is there now, as /proc and the file system show it. It judges nothing."""

import os
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemill.runtime.memory import process_memory
from tidemill.runtime.stress.soak.grounds import MARK, Grounds

PROC = Path("/proc")
SHARED_MEMORY = Path("/dev/shm")
REGION = "/memfd:tidemill-"


@dataclass(frozen=True, slots=True)
class Observation:
    """`descriptors`, `regions` (mapped) and `threads` are the subject's, counted by what they are; `processes` all that
    bear the campaign's mark, with what they are; `private_bytes` what the subject weighs alone, `tree_bytes` all
    processes together (0: the system does not tell)."""

    processes: Mapping[int, str]
    descriptors: Mapping[str, int]
    regions: Mapping[str, int]
    threads: int
    run_directories: tuple[str, ...]
    shared_memory: tuple[str, ...]
    files: tuple[str, ...]
    private_bytes: int
    tree_bytes: int


def observe(grounds: Grounds, subject: int | None) -> Observation:
    """`subject` None: there is none now."""
    processes = marked_processes(grounds.mark)
    sizes = {process: process_memory(process) for process in processes}
    own = sizes.get(subject) if subject is not None else None
    return Observation(
        processes=processes,
        descriptors={} if subject is None else count_descriptors(subject, grounds),
        regions={} if subject is None else count_regions(subject),
        threads=0 if subject is None else len(_list(PROC / str(subject) / "task")),
        run_directories=tuple(_list(grounds.run_directories)),
        shared_memory=tuple(name for name in _list(SHARED_MEMORY) if "tidemill" in name),
        files=tuple(_list(grounds.temporary)),
        private_bytes=own.total_bytes - own.shared_bytes if own else 0,
        tree_bytes=sum(size.total_bytes for size in sizes.values() if size),
    )


def marked_processes(mark: str) -> dict[int, str]:
    """All processes with the mark in their environment, and dead children of theirs that nobody waited for."""
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    dead: dict[int, int] = {}
    for name in _list(PROC):
        if not name.isdecimal():
            continue
        try:
            state, parent = _state(int(name))
            if state == "Z":
                dead[int(name)] = parent
            elif wanted in (PROC / name / "environ").read_bytes().split(b"\0"):
                found[int(name)] = describe(int(name))
        except OSError:
            continue  # it has ended, or is another user's
    return found | {process: "dead, not waited for" for process, parent in dead.items() if parent in found}


def describe(process: int) -> str:
    """What it was started as, in a few words."""
    words = (PROC / str(process) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    if "--actor" in words:
        return f"actor {words[words.index('--actor') + 1]}"
    named = [word.rpartition("/")[2] for word in words if word and not word.startswith("-")]
    return " ".join(named[:4])


def count_descriptors(process: int, grounds: Grounds) -> dict[str, int]:
    """By what they lead to, without what differs from one cell to the next."""
    counted: Counter[str] = Counter()
    directory = PROC / str(process) / "fd"
    for name in _list(directory):
        try:
            target = os.readlink(directory / name)
        except OSError:
            continue
        if target.startswith(("socket:", "pipe:")):
            target = target.partition(":")[0]
        elif target.startswith(str(grounds.run_directories)):
            target = f"run directory: {Path(target).name}"
        counted[target.removesuffix(" (deleted)")] += 1
    return dict(counted)


def count_regions(process: int) -> dict[str, int]:
    """Regions that are mapped, by name: each counts once, however many mappings it has."""
    try:
        lines = (PROC / str(process) / "maps").read_text().splitlines()
    except OSError:
        return {}
    found = set()
    for line in lines:
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].startswith(REGION):
            found.add((words[4], words[5].removeprefix(REGION).removesuffix(" (deleted)")))
    return dict(Counter(name for _, name in found))


def end_marked(mark: str) -> None:
    """Kill whatever of the campaign still runs."""
    for process in marked_processes(mark):
        send_signal(process, signal.SIGKILL)


def send_signal(process: int, number: signal.Signals) -> bool:
    """Whether it was there."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


def show_stacks(processes: Iterable[int]) -> str:
    """Where each thread of these is in the kernel, as far as this user may see."""
    lines: list[str] = []
    for process in processes:
        for thread in _list(PROC / str(process) / "task"):
            base = PROC / str(process) / "task" / thread
            status = dict(line.split(":\t", 1) for line in _read(base / "status").splitlines() if ":\t" in line)
            name, state = status.get("Name", "?"), status.get("State", "?")
            lines.append(f"process {process} thread {thread} ({name}): {state}, in {_read(base / 'wchan') or '?'}")
            lines += [f"    {frame}" for frame in _read(base / "stack").splitlines()]
    return "\n".join(lines)


def _state(process: int) -> tuple[str, int]:
    """(one letter, the parent)"""
    fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _list(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
