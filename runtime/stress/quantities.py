"""Counts and times as people read them. Pure."""

UNITS = ((1_000_000_000, "sec"), (1_000_000, "msec"), (1000, "usec"), (1, "nsec"))
ENOUGH = 2  # of a unit: fio takes the largest in which the mean has this much


def unit_of(mean_ns: float) -> tuple[int, str]:
    """(nanoseconds, name) of the unit that fio would choose."""
    return next((size, unit) for size, unit in UNITS if mean_ns >= ENOUGH * size or size == 1)


def format_count(value: float) -> str:
    """Three digits or so: 951, 30.1k, 2.35M."""
    for unit in ("", "k", "M"):
        if abs(value) < 1000:
            return f"{value:.0f}{unit}" if abs(value) >= 100 else f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}G"


def format_ns(value: float) -> str:
    for unit in ("ns", "µs", "ms"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} s"


def format_figure(figure: str, value: float) -> str:
    """By its name: …_ns and …_bytes have units, everything else is a count."""
    if figure.endswith("_ns"):
        return format_ns(value)
    return f"{value / 1e6:.1f} MB/s" if figure == "bw_bytes" else format_count(value)
