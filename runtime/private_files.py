"""Files that are one user's alone: made so, and refused when found otherwise."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "regular file", stat.S_IFIFO: "FIFO"}


class NotPrivateError(OSError):
    """Somebody else owns or may use what has to be this user's alone."""


def check_private(status: os.stat_result, path: str | Path, kind: int) -> None:
    """`kind`: S_IFDIR, S_IFREG or S_IFIFO. Raises NotPrivateError."""
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_IFMT(status.st_mode) == kind and status.st_uid == os.getuid() and not mode & 0o077:
        return
    expected = f"{os.getuid()} and {'700' if kind == stat.S_IFDIR else '600'}"
    raise NotPrivateError(
        f"{path} is not a {KINDS[kind]} of this user alone (owner {status.st_uid}, mode {mode:o}, expected "
        f"{expected}); remove it or set XDG_RUNTIME_DIR"
    )


def create_private(path: Path) -> BinaryIO:
    """An empty file of mode 0600, whatever the umask, open for writing. What is there already goes; a link is not
    followed. Raises OSError."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return open(fd, "wb")
