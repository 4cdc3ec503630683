"""Numbers as fio's options write them: 4k, 1m, 10s, /a/x:/b/y. Pure."""

import re
from collections.abc import Sequence

SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?")
SECONDS = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
TIME = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|)")


def parse_size(text: str) -> int:
    """Bytes. k, m, g and t count in 1024s, as fio's do, and so do KiB, MiB, …; fio itself takes those for 1000s.

    Raises ValueError that says what is accepted."""
    match = SIZE.fullmatch(text.strip().lower())
    size = round(float(match[1]) * SIZES[match[2]]) if match else 0
    if size <= 0:
        raise ValueError(f"{text!r} is no size; write for example 4k, 512k, 1m, 2g or a number of bytes above 0")
    return size


def parse_seconds(text: str) -> float:
    """Raises ValueError that says what is accepted."""
    match = TIME.fullmatch(text.strip().lower())
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time; write for example 10 or 10s, 500ms, 2m, 1h: more than 0")
    return seconds


def format_size(size: int) -> str:
    """The shortest that `parse_size` makes the same of."""
    for unit in ("t", "g", "m", "k"):
        if size and size % SIZES[unit] == 0:
            return f"{size // SIZES[unit]}{unit}"
    return str(size)


def split_files(text: str) -> Sequence[str]:
    r"""Names between colons; `\:` is a colon of a name. Raises ValueError for one that is empty."""
    names = [name.replace("\\:", ":") for name in re.split(r"(?<!\\):", text)]
    if not all(names):
        raise ValueError(f"{text!r} names nothing between two colons; write a colon of a file's name as \\:")
    return names


def join_files(names: Sequence[str]) -> str:
    """What `split_files` takes apart."""
    return ":".join(name.replace(":", "\\:") for name in names)


def parse_sweep(text: str) -> tuple[str, Sequence[str]]:
    """iodepth=1,2,4 -> (iodepth, (1, 2, 4)). Raises ValueError."""
    name, _, values = text.partition("=")
    found = tuple(value.strip() for value in values.split(","))
    if not name or not all(found):
        raise ValueError(f"{text!r} is no sweep; write an option and its values: iodepth=1,2,4,8")
    return name.strip().lstrip("-"), found
