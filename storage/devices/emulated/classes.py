"""The drive classes that can be emulated, by their published figures. Sources and what is assumed: docs/devices.md."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tidemill.storage.devices.emulated.pauses import Pauses, Throttle
from tidemill.storage.devices.emulated.rate_table import Figures, Point

MB, US, MS = 1e6, 1e-6, 1e-3


class DriveClass(NamedTuple):
    """`figures` None: no limits. `jitter` is always there; `gc` and `throttle` only where they are asked for."""

    summary: str
    figures: Figures | None
    jitter: float = 0.0
    gc: Pauses = Pauses(pause_s=5 * MS, period_s=2.0)
    throttle: Throttle = Throttle(share=0.5, after_s=60.0)


CLASSES: Mapping[str, DriveClass] = MappingProxyType(
    {
        "none": DriveClass("no limits: for faults alone, or with rate= and latency=", None),
        "ufs-2.2": DriveClass(
            "phones of the middle class: 1 GB/s, 58,000 reads/s",
            Figures(alone_s=130 * US, reads_per_s=58_000, bytes_per_s=1000 * MB, slots=32),
            jitter=0.2,
            gc=Pauses(pause_s=10 * MS, period_s=2.0),
            throttle=Throttle(share=0.5, after_s=120.0),
        ),
        "ufs-3.1": DriveClass(
            "phones: 2.1 GB/s, 100,000 reads/s",
            Figures(alone_s=90 * US, reads_per_s=100_000, bytes_per_s=2100 * MB, slots=32),
            jitter=0.2,
            gc=Pauses(pause_s=5 * MS, period_s=2.0),
            throttle=Throttle(share=0.5, after_s=60.0),
        ),
        "ufs-4.0": DriveClass(
            "fast phones: 4.2 GB/s, 3.5 in random reads of 512 KiB, 0.45 to 0.85 in those of 4 KiB",
            Figures(
                alone_s=65 * US,
                reads_per_s=207_500,
                bytes_per_s=4200 * MB,
                slots=32,
                points=(Point(4 << 10, 8, 450 * MB), Point(4 << 10, 32, 850 * MB), Point(512 << 10, 32, 3500 * MB)),
            ),
            jitter=0.2,
            gc=Pauses(pause_s=5 * MS, period_s=2.0),
            throttle=Throttle(share=0.5, after_s=60.0),
        ),
        "nvme-gen3": DriveClass(
            "PCIe 3 x4: 3.5 GB/s, 600,000 reads/s",
            Figures(alone_s=1 / 19_000, reads_per_s=600_000, bytes_per_s=3500 * MB, slots=256),
            jitter=0.1,
            gc=Pauses(pause_s=2 * MS, period_s=2.0),
            throttle=Throttle(share=0.6, after_s=180.0),
        ),
        "nvme-gen4": DriveClass(
            "PCIe 4 x4: 7 GB/s, 1,000,000 reads/s",
            Figures(alone_s=1 / 22_000, reads_per_s=1_000_000, bytes_per_s=7000 * MB, slots=256),
            jitter=0.1,
            gc=Pauses(pause_s=2 * MS, period_s=2.0),
            throttle=Throttle(share=0.5, after_s=120.0),
        ),
        "sata": DriveClass(
            "SATA SSD: 560 MB/s, 98,000 reads/s",
            Figures(alone_s=1 / 13_000, reads_per_s=98_000, bytes_per_s=560 * MB, slots=32),
            jitter=0.1,
            gc=Pauses(pause_s=10 * MS, period_s=5.0),
            throttle=Throttle(share=0.7, after_s=600.0),
        ),
        "sd-card": DriveClass(
            "UHS-I card of class A2: 90 MB/s, 4,000 reads/s",
            Figures(alone_s=1 / 1_500, reads_per_s=4_000, bytes_per_s=90 * MB, slots=32),
            jitter=0.3,
            gc=Pauses(pause_s=100 * MS, period_s=2.0),
            throttle=Throttle(share=0.6, after_s=300.0),
        ),
    }
)
