"""A model of random weights to stream, written as a conversion writes one, and removed again."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.scratch import check_room
from tidemill.runtime.tuning.synthetic_model import plan_synthetic_model
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Source
from tidemill.storage.model_writer import write_model

KIND = "bf16"  # raw: any bits are weights


@contextmanager
def scratch_model(directory: Path, size: int, on_bytes: Callable[[int, int], None]) -> Iterator[Path]:
    """A model of at least `size` bytes of matrices; `on_bytes(done, total)`. Raises NoScratchSpaceError,
    StorageError."""
    check_room(directory, size)  # before planning what could never be written
    planned = plan_synthetic_model(KIND, weight_bytes=size)
    total = sum(extent.bytes for extent in planned.extents)
    check_room(directory, total)
    rng = np.random.default_rng(0)
    done = 0

    def read_bundles(table: TableId, start: int, stop: int) -> npt.NDArray[np.uint8]:
        bundle_bytes = planned.tables[table].bundle_bytes
        return np.frombuffer(rng.bytes((stop - start) * bundle_bytes), np.uint8).reshape(-1, bundle_bytes)

    def count(written: int) -> None:
        nonlocal done
        done += written
        on_bytes(done, total)

    with tempfile.TemporaryDirectory(prefix=".stress-", dir=directory) as parent:
        model = Path(parent) / "model"
        write_model(
            model,
            decoder=planned.decoder,
            source=Source(kind="synthetic", name=f"{format_size(total)} of noise", fingerprint="", note=""),
            tables=planned.tables,
            read_bundles=read_bundles,
            files={},
            on_bytes=count,
        )
        yield model
