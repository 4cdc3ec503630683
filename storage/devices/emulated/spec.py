"""`--device emulate:CLASS[,key=value…]`: what an emulated drive is told, and the one place where it is parsed."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from tidemill.storage.devices.emulated.classes import CLASSES, DriveClass
from tidemill.storage.devices.emulated.faults import FaultRule, parse_fault
from tidemill.storage.devices.emulated.pauses import Pauses, Throttle
from tidemill.storage.devices.emulated.rate_table import RateTable
from tidemill.storage.quantities import parse_bytes, parse_seconds, parse_share

DRIVE = "drive"
PREFIX = "emulate:"
SLOTS_MAX = 1024
FORMS: Mapping[str, str] = MappingProxyType(
    {
        "rate": "rate=500MB/s",
        "latency": "latency=50us",
        "jitter": "jitter=20%",
        "gc": "gc or gc=5ms/2s (pause/period)",
        "throttle": "throttle or throttle=50%/60s (share of the speed/after)",
        "queue": "queue=32",
        "seed": "seed=1",
        "fault": "fault=KIND:…",
    }
)


class Emulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`rate` caps bytes per second, `added_s` is added to every read; `queue` None: the class's."""

    drive_class: str
    rate: float | None = None
    added_s: float = 0.0
    jitter: float = 0.0
    gc: Pauses | None = None
    throttle: Throttle | None = None
    queue: int | None = None
    seed: int = 0
    faults: tuple[FaultRule, ...] = ()
    text: str = ""  # as it was given

    @property
    def is_limited(self) -> bool:
        """Whether it says what reads take."""
        return CLASSES[self.drive_class].figures is not None or self.rate is not None or self.added_s > 0


def table_of(emulation: Emulation) -> RateTable:
    """What reads take of the drive, but for jitter and pauses."""
    figures = CLASSES[emulation.drive_class].figures
    table = RateTable.unlimited() if figures is None else RateTable.of(figures)
    return table.limited(bytes_per_s=emulation.rate, added_s=emulation.added_s)


def slots_of(emulation: Emulation) -> int:
    """Reads that the drive takes at once."""
    figures = CLASSES[emulation.drive_class].figures
    return emulation.queue or (SLOTS_MAX if figures is None else figures.slots)


def parse_device(text: str) -> Emulation | None:
    """None: the drive as it is. Raises ValueError that lists what is possible."""
    if text == DRIVE:
        return None
    if not text.startswith(PREFIX):
        raise ValueError(
            f"device {text!r} is unknown: {DRIVE} (as it is), or {PREFIX}CLASS[,key=value...] with CLASS one of "
            f"{', '.join(CLASSES)}; for example {PREFIX}ufs-4.0,fault=eio:1e-4,seed=1"
        )
    name, *words = text.removeprefix(PREFIX).split(",")
    if name not in CLASSES:
        raise ValueError(f"drive class {name!r} is unknown, accepted: {', '.join(CLASSES)}")
    chosen = CLASSES[name]
    found: dict[str, object] = {"jitter": chosen.jitter}
    faults: list[FaultRule] = []
    for word in words:
        key, _, value = word.partition("=")
        if key not in FORMS:
            raise ValueError(f"device {text!r}: {word!r} is unknown, accepted: {'; '.join(FORMS.values())}")
        try:
            if key == "fault":
                faults.append(parse_fault(value))
            else:
                found |= PARSERS[key](value, chosen)
        except ValueError as error:
            raise ValueError(f"device {text!r}: {word!r}: {error}; it is written {FORMS[key]}") from None
    return msgspec.convert(dict(found, drive_class=name, faults=tuple(faults), text=text), Emulation)


def _rate(value: str, chosen: DriveClass) -> dict[str, object]:
    rate = parse_bytes(value.removesuffix("/s"))
    peak = chosen.figures.bytes_per_s if chosen.figures is not None else float("inf")
    if not 0 < rate <= peak:
        raise ValueError(f"the class does {peak / 1e6:.0f} MB/s at most, and a rate only lowers that")
    return {"rate": float(rate)}


def _gc(value: str, chosen: DriveClass) -> dict[str, object]:
    if not value:
        return {"gc": chosen.gc}
    pause, _, period = value.partition("/")
    pauses = Pauses(parse_seconds(pause), parse_seconds(period))
    if pauses.period_s <= 0:
        raise ValueError("the period must be more than 0")
    return {"gc": pauses}


def _throttle(value: str, chosen: DriveClass) -> dict[str, object]:
    if not value:
        return {"throttle": chosen.throttle}
    share, _, after = value.partition("/")
    throttle = Throttle(parse_share(share), parse_seconds(after))
    if throttle.share <= 0 or throttle.after_s <= 0:
        raise ValueError("both must be more than 0")
    return {"throttle": throttle}


def _count(value: str, most: int) -> int:
    if not (value.isascii() and value.isdecimal() and int(value) <= most):
        raise ValueError(f"{value!r} is no whole number up to {most}")
    return int(value)


def _queue(value: str, _: DriveClass) -> dict[str, object]:
    if _count(value, SLOTS_MAX) == 0:
        raise ValueError("a drive takes at least 1 read at once")
    return {"queue": int(value)}


PARSERS: Mapping[str, Callable[[str, DriveClass], dict[str, object]]] = MappingProxyType(
    {
        "rate": _rate,
        "latency": lambda value, _: {"added_s": parse_seconds(value)},
        "jitter": lambda value, _: {"jitter": parse_share(value)},
        "gc": _gc,
        "throttle": _throttle,
        "queue": _queue,
        "seed": lambda value, _: {"seed": _count(value, (1 << 63) - 1)},
    }
)
