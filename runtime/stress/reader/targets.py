"""Files as the reader actor knows them: a manifest, whatever they are. Opens files read only, and only to look."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.runtime.stress.reader.job import ReaderJob
from tidemill.runtime.tuning.synthetic_model import ONE_LAYER
from tidemill.storage.checksums import digest
from tidemill.storage.errors import DeviceError
from tidemill.storage.manifest import FORMAT_VERSION, Extent, Manifest, Plane, Source, Table
from tidemill.storage.manifest_file import MANIFEST_FILE, load_manifest

Prepare = Callable[[str, int, int], None]
PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """`manifest`: what the actor is given; its shards are `paths`. `is_verified`: reads show what they must be."""

    manifest: Manifest
    paths: tuple[Path, ...]
    is_verified: bool


def find_files(names: Sequence[str], least_bytes: int) -> tuple[str, ...]:
    """Files as named; of a directory all regular ones below it of at least so many bytes, by name. Raises DeviceError
    for what is neither a file nor a drive."""
    found: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
            large = sorted(str(p) for p in inside if p.stat().st_size >= least_bytes)
            if not large:
                raise DeviceError(f"{name} is a directory without a file of at least {least_bytes} bytes to read")
            found += large
        else:
            found.append(name)
    for name in found:
        size_of(Path(name))
    return tuple(found)


def is_model(names: Sequence[str]) -> bool:
    return len(names) == 1 and (Path(names[0]) / MANIFEST_FILE).is_file()


def size_of(path: Path) -> int:
    """Of a file or a raw drive. Raises DeviceError."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        if stat.S_ISBLK(status.st_mode):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.lseek(fd, 0, os.SEEK_END)
            finally:
                os.close(fd)
    except OSError as error:
        raise DeviceError(f"{path} cannot be read: {error.strerror}") from None
    raise DeviceError(f"{path} is neither a file, a directory of files nor a drive; name one with --filename")


def open_target(job: ReaderJob, prepare: Prepare) -> Target:
    """Raises StorageError; ValueError where a job does not go with its files."""
    if is_model(job.files):  # by its manifest; by blocks its shards are named
        manifest = load_manifest(Path(job.files[0]))
        paths = tuple(Path(job.files[0]) / shard.file for shard in manifest.shards)
        return Target(manifest, paths, is_verified=job.verify is not False)
    if job.block_bytes is None:
        raise ValueError("a block size is needed for files that are no model: give --bs")
    paths = tuple(map(Path, job.files))
    if job.sealed:
        return Target(_bundles(size_of(paths[0]), job.block_bytes), paths, is_verified=job.verify is not False)
    if job.is_gather:
        raise ValueError(
            "single bundles carry digests of their own, so they are read of a model that has such: --filename "
            "MODEL_DIRECTORY in layout input-channel, gate-first or neuron, or leave --filename out for a scratch file"
        )
    share = None if job.size is None else job.size // len(paths)
    digests = [_digests(path, job.block_bytes, share, prepare) for path in paths] if job.verify else None
    return Target(_blocks(paths, job.block_bytes, share, digests), paths, is_verified=bool(job.verify))


def _blocks(
    paths: Sequence[Path], block_bytes: int, share: int | None, digests: Sequence[tuple[str, ...]] | None
) -> Manifest:
    """Each file is one extent, whose checksum blocks are what is read: as rows of an embedding are."""
    extents: list[Extent] = []
    for number, path in enumerate(paths):
        region = size_of(path) if share is None else min(share, size_of(path))
        size = region // block_bytes * block_bytes
        if size == 0:
            raise ValueError(f"{path}: its region of {region} bytes holds no block of --bs {block_bytes}")
        extents.append(
            Extent(
                table=0,
                plane=0,
                shard=number,
                offset=0,
                stored_bytes=size,
                bytes=size,
                bundle_start=number,
                bundle_stop=number + 1,
                checksums=() if digests is None else digests[number],
            )
        )
    table = Table(
        role="head",
        layer=-1,
        layout="output-row",
        element="bf16",
        bundle_count=len(paths),
        bundle_elements=1,
        planes=(Plane("raw", 2),),
        checksum_block_bytes=block_bytes,
    )
    return _manifest((table,), extents)


def _bundles(size: int, bundle_bytes: int) -> Manifest:
    """One table of single bundles, and nothing else, fills a file."""
    count = size // bundle_bytes
    table = Table(
        role="mlp",
        layer=0,
        layout="neuron",
        element="bf16",
        bundle_count=count,
        bundle_elements=bundle_bytes // 2,
        planes=(Plane("raw-bundles", bundle_bytes),),
        checksum_block_bytes=0,
    )
    whole = count * bundle_bytes
    extent = Extent(
        table=0, plane=0, shard=0, offset=0, stored_bytes=whole, bytes=whole, bundle_start=0, bundle_stop=count,
        checksums=(),
    )  # fmt: skip
    return _manifest((table,), [extent])


def _manifest(tables: tuple[Table, ...], extents: Sequence[Extent]) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        writer="stress",
        decoder=ONE_LAYER,
        source=Source(kind="synthetic", name="stress", fingerprint="", note=""),
        tables=tables,
        shards=(),
        extents=tuple(extents),
        files=(),
    )


def _digests(path: Path, block_bytes: int, share: int | None, prepare: Prepare) -> tuple[str, ...]:
    """What each block of the region is now, read by way of the page cache, which keeps nothing of it."""
    size = (size_of(path) if share is None else min(share, size_of(path))) // block_bytes * block_bytes
    found: list[str] = []
    try:
        with path.open("rb", buffering=0) as file:
            blocks = max(1, PIECE_BYTES // block_bytes)
            buffer = memoryview(bytearray(blocks * block_bytes))
            for at in range(0, size, len(buffer)):
                piece = buffer[: min(len(buffer), size - at)]
                _fill(file.fileno(), piece, at, path)
                found += [digest(piece[i : i + block_bytes]) for i in range(0, len(piece), block_bytes)]
                os.posix_fadvise(file.fileno(), at, len(piece), os.POSIX_FADV_DONTNEED)
                prepare(f"learning checksums of {path.name}", at + len(piece), size)
    except OSError as error:
        raise DeviceError(f"{path} cannot be read: {error.strerror}") from None
    return tuple(found)


def _fill(fd: int, piece: memoryview, at: int, path: Path) -> None:
    done = 0
    while done < len(piece):
        got = os.preadv(fd, [piece[done:]], at + done)
        if got == 0:
            raise DeviceError(f"{path} ends at offset {at + done}, before its size says so")
        done += got
