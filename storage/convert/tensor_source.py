"""What a conversion reads from: tensors by their Hugging Face names, row by row."""

import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tidemill.storage.checksums import digest
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.errors import SourceError
from tidemill.storage.manifest import Element, Source

SAMPLES = 64
SAMPLE_BYTES = 4096


class TensorSource(Protocol):
    """Holds at most the rows that were asked for; never maps or loads a whole file."""

    @property
    def decoder(self) -> DecoderSpec: ...

    @property
    def source(self) -> Source: ...

    @property
    def files(self) -> Mapping[str, bytes]: ...  # tokenizer and configuration files that go with the model

    def shape(self, name: str) -> tuple[int, ...]: ...  # raises SourceError when there is no such tensor

    def element(self, name: str) -> Element: ...

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Rows [start, stop) as bytes [N, row bytes]; a vector is one row."""
        ...

    def others(self, names: Collection[str]) -> list[str]:
        """Tensors that are none of `names` and that a decoder computes with: there should be none."""
        ...

    def close(self) -> None: ...


def sample_digest(path: Path) -> str:
    """Tells a file from others of its size and header by samples spread over its content: two trainings of one model
    differ in nearly every weight. What a resumed conversion goes by; reading all would double its I/O."""
    size = path.stat().st_size
    last = max(0, size - SAMPLE_BYTES)
    offsets = sorted({last * i // (SAMPLES - 1) for i in range(SAMPLES)})
    samples = [read_exactly(path, offset, min(SAMPLE_BYTES, size)) for offset in offsets]
    return f"{size}-{digest(b''.join(samples))}"


def check_source_file(path: Path, *, bytes_max: int | None = None) -> int:
    """Bytes of a source's file, which may be reached by links: the Hub's cache is made of them. Raises SourceError for
    one that is missing, no regular file (a FIFO would be waited for for ever) or larger than `bytes_max`."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}; download it again") from None
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is not a regular file; download it again")
    if bytes_max is not None and status.st_size > bytes_max:
        raise SourceError(f"{path} has {status.st_size} bytes, at most {bytes_max} are allowed; download it again")
    return status.st_size


def read_exactly(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes of a file, or SourceError."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        parts: list[bytes] = []
        missing = size
        while missing and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
    if missing:
        raise SourceError(
            f"{path} ends {missing} bytes too early (reading {size} bytes at {offset}); download it again"
        )
    return b"".join(parts)
