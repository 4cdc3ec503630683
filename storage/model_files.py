"""Files of a model's directory, which may come from anywhere: they lie in it, are regular files and
have a bounded size.

A directory that is itself reached by a link is fine; a link in it that leads out is not.
"""

import os
import stat
from pathlib import Path

from tidemill.storage.errors import FormatError


def check_model_file(directory: Path, name: str) -> int:
    """Bytes of a regular file that lies in the model. Raises FormatError for anything else."""
    path = directory / name
    try:
        target, inside = path.resolve(strict=True), directory.resolve()
        if not target.is_relative_to(inside):
            raise FormatError(
                f"{path} leads out of the model's directory, to {target}; expected a file inside {inside}: put the "
                "file itself there, or convert or pull the model again"
            )
        status = path.stat()
    except FileNotFoundError:
        raise FormatError(f"{path} is missing; convert or pull the model again") from None
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that lead back to themselves
        raise FormatError(f"{path} cannot be read: {error}; convert or pull the model again") from None
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(f"{path} is not a regular file; convert or pull the model again")
    return status.st_size


def read_model_file(directory: Path, name: str, *, bytes_max: int) -> bytes | None:
    """None when there is none. Raises FormatError, before anything is read, for one that is larger."""
    path = directory / name
    if not os.path.lexists(path):
        return None
    size = check_model_file(directory, name)
    if size > bytes_max:
        raise FormatError(f"{path} has {size} bytes, at most {bytes_max} are allowed; convert or pull the model again")
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}; convert or pull the model again") from None
