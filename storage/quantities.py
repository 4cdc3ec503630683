"""Sizes, times, rates and shares as people write them in a word: 600MiB, 50us, 2.1GB/s, 20%, 1e-4."""

import re

PREFIXES = {"": (1, 1), "k": (1000, 1 << 10), "m": (1000**2, 1 << 20), "g": (1000**3, 1 << 30), "t": (1000**4, 1 << 40)}
SIZE_UNITS = {f"{p}{b}": size for p, (size, _) in PREFIXES.items() for b in ("", "b")} | {
    f"{p}ib": size for p, (_, size) in PREFIXES.items() if p
}
TIME_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Zµ]*)\s*")
SHARE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(%?)")


def parse_bytes(text: str) -> int:
    """Raises ValueError that says what is accepted."""
    number, unit = _split(text)
    if unit.lower() not in SIZE_UNITS:
        raise ValueError(f"{text!r} is no size; write for example 600MiB, 8GB, 1.5GiB or a number of bytes")
    return int(number * SIZE_UNITS[unit.lower()])


def parse_seconds(text: str) -> float:
    """Raises ValueError that says what is accepted."""
    number, unit = _split(text)
    if unit not in TIME_UNITS:
        raise ValueError(f"{text!r} is no time; write for example 50us, 20ms, 2s or 1min")
    return number * TIME_UNITS[unit]


def parse_share(text: str) -> float:
    """0 to 1. Raises ValueError that says what is accepted."""
    match = SHARE.fullmatch(text)
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share; write for example 0.01, 1e-4 or 20%")
    return share


def is_time(text: str) -> bool:
    return _split(text)[1] in TIME_UNITS


def _split(text: str) -> tuple[float, str]:
    match = QUANTITY.fullmatch(text)
    return (float(match[1]), match[2]) if match else (0.0, "?")
