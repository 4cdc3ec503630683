"""What an engine is opened with: validated values, no defaults (those live at the public entry points)."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidemill.storage.devices.device import LoadMode

LauncherName = Literal["local", "in-process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """`ram_bytes` None: no ceiling, the model is resident. `arena_bytes` None: what the ceiling leaves."""

    model: Path
    ram_bytes: int | None
    arena_bytes: int | None
    context: int
    threads: int
    load_mode: LoadMode
    launcher: LauncherName
    io_depth: int


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
