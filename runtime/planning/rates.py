"""The rates of one machine and one of its file systems, as measured by `tidemill tune` and kept as JSON."""

import msgspec

from tidemill.storage.devices.device import LoadMode

RATES_VERSION = 1


class FlashPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Throughput of reads of `request_bytes` with `depth` of them under way."""

    request_bytes: int
    depth: int
    bytes_per_s: float


class FlashRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`points` are a full grid of request sizes × depths, or a single one for a flat rate."""

    source: str  # what was read: a model's shards or a scratch file
    load_mode: LoadMode  # the one in force
    points: tuple[FlashPoint, ...]


class KernelRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`bytes_per_s`: weights computed on at batch 1, by kind of stored element (`Table.kind`), in bytes as they lie in
    the arena. `flop_per_s`: by batch, two operations per weight and position."""

    bytes_per_s: dict[str, float]
    flop_per_s: dict[int, float]


class GatherRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What reading single bundles takes, verified and placed, at the depth it was measured at: `read_s` for each read,
    `byte_s` for each byte that is read, `bundle_s` for each bundle; but never faster than `bytes_per_s_max`."""

    depth: int
    read_s: float
    byte_s: float
    bundle_s: float
    bytes_per_s_max: float | None = None  # where the drive is throttled

    def seconds(self, requests: float, read_bytes: float, bundles: float) -> float:
        """Of all of them together."""
        own_s = requests * self.read_s + read_bytes * self.byte_s + bundles * self.bundle_s
        return own_s if self.bytes_per_s_max is None else max(own_s, read_bytes / self.bytes_per_s_max)


class MachineRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that `tidemill tune` measures."""

    version: int
    host: str
    cpu: str
    threads: int  # that DRAM and kernels were measured with
    file_system: str
    measured_at: str  # ISO 8601, UTC
    flash: FlashRates
    dram_bytes_per_s: float
    kernels: KernelRates
    gathers: GatherRates | None = None  # None: no model with single bundles was measured
