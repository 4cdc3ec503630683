"""The room of an emulated drive that is written to."""

import errno
import os

import msgspec

from tidemill.storage.devices.emulated.spec import Emulation


class DiskSpace:
    """Gives out so many bytes in all; then there are no more, as on a full disk."""

    def __init__(self, left_bytes: int | None) -> None:
        """None: as many as are wanted."""
        self._left = left_bytes

    @classmethod
    def of(cls, emulation: Emulation | None) -> "DiskSpace":
        """Raises ValueError for what a writer would not heed."""
        if emulation is None:
            return cls(None)
        plain = Emulation(drive_class="none", seed=emulation.seed, text=emulation.text)
        rules = [rule for rule in emulation.faults if rule.kind == "enospc"]
        if msgspec.structs.replace(plain, faults=tuple(rules)) != emulation or not rules:
            raise ValueError(
                f"device {emulation.text!r}: of an emulated drive a writer heeds its space alone; accepted: "
                "emulate:none,fault=enospc:@SIZE"
            )
        return cls(min(rule.after_bytes or 0 for rule in rules))

    def take(self, byte_count: int) -> None:
        """Before a write of so many bytes. Raises OSError with ENOSPC."""
        if self._left is None:
            return
        if byte_count > self._left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._left -= byte_count
