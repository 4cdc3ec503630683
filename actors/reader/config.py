import msgspec

from tidemill.storage.bundle_plan import BundlePlan

# A fast drive's, where nothing was measured: below 64 KiB a request costs nearly the same whatever its size.
REQUEST_BYTES = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
REQUEST_S = (12e-6, 16e-6, 38e-6, 120e-6, 450e-6)


class ReaderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`retries`: how often a read that failed of what may pass is tried again before it fails for good, after pauses of
    which the first is `pause_ns`; `is_verified`: whether checksums are looked at. Single bundles are read as
    storage/read_plan.py says, by what requests of some sizes take of the drive, at most `read_bytes_max` at a time."""

    tickets: int  # most reads that the arena may have outstanding
    retries: int
    pause_ns: int = 1_000_000
    is_verified: bool = True
    bundles: BundlePlan = BundlePlan()
    request_bytes: tuple[int, ...] = REQUEST_BYTES
    request_s: tuple[float, ...] = REQUEST_S
    read_bytes_max: int = 512 << 10
