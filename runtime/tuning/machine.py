"""What makes a measurement this machine's and this file system's. Reads /etc and /proc, measures nothing."""

import os
import platform
import socket
from pathlib import Path
from typing import NamedTuple

from tidemill.storage.checksums import digest

MACHINE_ID = Path("/etc/machine-id")
CPU_INFO = Path("/proc/cpuinfo")
MOUNTS = Path("/proc/self/mountinfo")
LAST_LEVEL_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


class Mount(NamedTuple):
    device: str  # major:minor
    path: str
    kind: str
    source: str


def host_id() -> str:
    """16 hex digits of machine id (or host name), CPU model and core count: an image that is copied to another kind of
    machine is measured again."""
    try:
        name = MACHINE_ID.read_text().strip()
    except OSError:
        name = ""
    return digest(f"{name or socket.gethostname()}|{cpu_model()}|{os.cpu_count()}".encode())


def cpu_model() -> str:
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [""])[0] or platform.processor() or platform.machine()


def file_system(path: Path) -> str:
    """The device that holds a path ("/dev/nvme0n1p2, ext4"); where a mount has no device of its own, its number."""
    while not path.exists():
        path = path.parent
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    try:
        mounts = parse_mounts(MOUNTS.read_text())
    except OSError:
        mounts = []
    for mount in mounts:
        if mount.device == device:
            return f"{mount.source if mount.source.startswith('/') else device}, {mount.kind}"
    return device


def parse_mounts(text: str) -> list[Mount]:
    """From the text of /proc/self/mountinfo (proc(5)): fields before and after a lone dash."""
    mounts: list[Mount] = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) >= 5 and len(right) >= 2:
            mounts.append(Mount(left[2], left[4], right[0], right[1]))
    return mounts


def last_level_cache_bytes() -> int | None:
    """Of the cache furthest from a core, or None where the system does not tell."""
    sizes: list[int] = []
    for path in LAST_LEVEL_CACHE.glob("index*/size"):
        try:
            text = path.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0))
        except (OSError, ValueError):
            continue
    return max(sizes, default=None)
