"""Remembers what a cell's processes weighed when a run last opened one, so that a plan needs none. One small file."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidemill.runtime.tuning.saved_rates import rates_directory
from tidemill.storage.atomic_file import write_atomically

CHANGE_RATIO = 0.02  # smaller changes of the sum are not written down


def processes_path() -> Path:
    return rates_directory() / "processes.json"


def remember_processes(sizes: Mapping[str, int]) -> None:
    """Keep bytes per process of this run. A cache that cannot be written is no reason to end a run."""
    known = sum(find_processes().values())
    if abs(sum(sizes.values()) - known) > CHANGE_RATIO * known:
        with contextlib.suppress(OSError):
            write_atomically(processes_path(), msgspec.json.encode(dict(sizes)))


def find_processes() -> dict[str, int]:
    """Bytes per process of the last run, or nothing: never run, or a damaged file, which the next run replaces."""
    try:
        sizes = msgspec.json.decode(processes_path().read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return sizes if min(sizes.values(), default=0) > 0 else {}
