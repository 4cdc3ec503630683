"""A place for what a target has to find in a file; it goes with the process."""

import functools
import tempfile
from pathlib import Path

_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def scratch_directory(name: str) -> Path:
    _KEPT.append(tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-"))
    return Path(_KEPT[-1].name)
