"""Sizes as people write them: 600MiB, 8GB, 1.5GiB, 1000000; and times as they read them."""

from tidemill.storage.quantities import parse_bytes


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError that says what is accepted."""
    size = parse_bytes(text)
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
