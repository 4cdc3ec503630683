"""Empties the page cache, so that a run starts with its weights on the drive alone."""

import os
from collections.abc import Iterable
from pathlib import Path

DROP = Path("/proc/sys/vm/drop_caches")


def drop_page_cache(paths: Iterable[Path], drop: Path = DROP) -> str:
    """Drops everything, which takes root; otherwise what is cached of the files under `paths`. Returns what is missing
    of the former, or nothing."""
    os.sync()
    try:
        drop.write_text("3\n")
    except OSError as error:
        for path in paths:
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file():
                    _forget(file)
        return f"an empty page cache: {error.strerror} ({drop}); the models' own files were dropped from it instead"
    return ""


def _forget(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
