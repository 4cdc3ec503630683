"""Sizes as people write them: 600MiB, 8GB, 1.5GiB, 1000000; and times as they read them."""

import re

PREFIXES = {"": (1, 1), "k": (1000, 1 << 10), "m": (1000**2, 1 << 20), "g": (1000**3, 1 << 30), "t": (1000**4, 1 << 40)}
UNITS = {f"{p}{b}": size for p, (size, _) in PREFIXES.items() for b in ("", "b")} | {
    f"{p}ib": size for p, (_, size) in PREFIXES.items() if p
}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError that says what is accepted."""
    match = SIZE.fullmatch(text)
    if match is None or match[2].lower() not in UNITS:
        raise ValueError(f"{text!r} is no size; write for example 600MiB, 8GB, 1.5GiB or a number of bytes")
    size = int(float(match[1]) * UNITS[match[2].lower()])
    if size <= 0:
        raise ValueError(f"{text!r} is no size: it must be more than 0")
    return size


def format_size(size: float) -> str:
    """In binary units, three digits or so."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"


def format_seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"
