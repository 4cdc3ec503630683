"""Memory whose pages lie next to one another, for drives that are told of every page that does not."""

import contextlib
import mmap
from pathlib import Path

import numpy as np

HUGE_PAGE_BYTES = 2 << 20
SHARED_SETTING = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


def round_up(byte_count: int) -> int:
    return -(-byte_count // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES


def huge_page_buffer(byte_count: int) -> memoryview:
    """Private memory of whole 2 MiB pages where the system gives them, which it does not for shared memory: see
    `is_shared_memory_scattered`."""
    size = round_up(byte_count)
    region = mmap.mmap(-1, size + HUGE_PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            region.madvise(mmap.MADV_HUGEPAGE)
    pages = np.frombuffer(region, np.uint8)
    first = -pages.ctypes.data % HUGE_PAGE_BYTES
    return pages[first : first + size].data


def is_shared_memory_scattered(setting: Path = SHARED_SETTING) -> bool:
    """Whether regions that processes share come in single pages even if 2 MiB pages are asked for (the usual case)."""
    try:
        words = setting.read_text().split()
    except OSError:
        return True
    return not {"[always]", "[within_size]", "[advise]", "[force]"} & set(words)
