import errno
import mmap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.storage.devices.fake_calls import FakeCalls, preadv
from tidemill.runtime.environment import kernel_directory
from tidemill.storage.codecs.bf16_bundles import Bf16BundlesCodec, bf16_bundle_bytes, capacity_of, find_bad_bundle
from tidemill.storage.codecs.bundle_digest import seal_bundles
from tidemill.storage.devices.gather import BundleCheck, GatherPart, GatherRequest
from tidemill.storage.devices.gatherer import GATHER_DEPTH, YIELDING_DEPTH, Gatherer, Surroundings
from tidemill.storage.devices.native.code import load_code
from tidemill.storage.devices.native.order import GatherFunction
from tidemill.storage.devices.native.system import AsyncContexts, Calls, find_calls
from tidemill.storage.devices.shard_files import ShardFiles
from tidemill.storage.errors import CorruptDataError, DeviceError
from tidemill.storage.manifest import Plane, Table

SIZE, COUNT, TABLE = 1088, 900, 5
NEVER = np.zeros(1, np.int64)
Bytes = npt.NDArray[np.uint8]


@cache
def code() -> GatherFunction:
    return load_code(kernel_directory()).gather


@pytest.fixture(scope="module")
def bundles() -> Bytes:
    made = np.random.default_rng(1).integers(0, 256, (COUNT, SIZE), np.uint8)
    seal_bundles(made, TABLE, 0)
    return made


@pytest.fixture
def shard(tmp_path: Path, bundles: Bytes) -> Path:
    path = tmp_path / "shard"
    path.write_bytes(bundles.tobytes())
    return path


@pytest.fixture
def arena() -> Bytes:
    return np.frombuffer(mmap.mmap(-1, COUNT * SIZE), np.uint8)


@pytest.fixture
def files(shard: Path) -> Iterator[ShardFiles]:
    files = ShardFiles([shard], "direct")
    yield files
    files.close()


def request_of(ids: list[int], *, alignment: int = 4096, most: int = 4, seed: int = 0) -> GatherRequest:
    """Reads of 1 to `most` of the bundles, into slots in another order."""
    rng = np.random.default_rng(seed)
    edges = [0]
    while edges[-1] < len(ids):
        edges.append(min(len(ids), edges[-1] + int(rng.integers(1, most + 1))))
    places = np.array(ids) * SIZE
    offsets = places[edges[:-1]] // alignment * alignment
    return GatherRequest(
        ticket=1,
        shards=np.zeros(len(edges) - 1, np.int64),
        offsets=offsets,
        edges=np.array(edges),
        starts=places - np.repeat(offsets, np.diff(edges)),
        slots=rng.permutation(COUNT)[: len(ids)],
        bundle_bytes=SIZE,
        pool_offset=0,
        alignment=alignment,
        check=BundleCheck(TABLE, np.array(ids)),
    )


def run(
    files: ShardFiles,
    arena: Bytes,
    request: GatherRequest,
    calls: Calls | FakeCalls,  # held until the gather is over
    *,
    context: int = 1,
    urgent: npt.NDArray[np.int64] = NEVER,
    cancelled: npt.NDArray[np.int64] = NEVER,
    buffer_bytes: int = 1 << 20,
) -> bool:
    system = calls.calls if isinstance(calls, FakeCalls) else calls
    gatherer = Gatherer(Surroundings(code(), system, files, arena, urgent), context)
    part = GatherPart(request, 0, len(request.offsets), False)
    return gatherer.run(part, cancelled, memoryview(mmap.mmap(-1, buffer_bytes)))


def assert_placed(arena: Bytes, request: GatherRequest, bundles: Bytes) -> None:
    expected = np.zeros((COUNT, SIZE), np.uint8)
    assert request.check is not None
    expected[request.slots] = bundles[request.check.bundles]
    assert np.array_equal(arena.reshape(COUNT, SIZE), expected)


@pytest.mark.parametrize("buffer_bytes", [32768, 69632, 1 << 20])
@pytest.mark.parametrize("alignment", [512, 4096])
def test_reads_that_end_in_any_order_bring_every_bundle_to_its_slot(
    files: ShardFiles, arena: Bytes, bundles: Bytes, buffer_bytes: int, alignment: int
) -> None:
    """Few fit into the smaller buffers at once, so their room is given back and taken again many times."""
    ids = np.flatnonzero(np.random.default_rng(2).random(COUNT) < 0.4).tolist()
    request = request_of(ids, alignment=alignment)
    fake = FakeCalls(seed=buffer_bytes)
    assert run(files, arena, request, fake, buffer_bytes=buffer_bytes)
    assert_placed(arena, request, bundles)
    assert fake.submitted == len(request.offsets)
    assert fake.most_under_way == GATHER_DEPTH or buffer_bytes < 1 << 20


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_the_systems_own_reads_do_so_too(
    files: ShardFiles, arena: Bytes, bundles: Bytes, *, is_asynchronous: bool
) -> None:
    contexts = AsyncContexts(1, GATHER_DEPTH)
    request = request_of(list(range(0, COUNT, 3)))
    context = [*contexts.contexts, 0][0] if is_asynchronous else 0
    assert run(files, arena, request, find_calls(), context=context)
    contexts.close()
    assert_placed(arena, request, bundles)


def test_what_is_refused_or_short_is_read_one_by_one(files: ShardFiles, arena: Bytes, bundles: Bytes) -> None:
    ends = iter([0, -errno.EAGAIN, 512, 1000, -errno.EIO] * 100)

    def cut(file: int, address: int, count: int, offset: int) -> int:
        end = next(ends)
        return end if end < 0 else preadv(file, address, count, offset) and end

    request = request_of(list(range(0, COUNT, 2)))
    assert run(files, arena, request, FakeCalls(refusals=3, finish=cut))
    assert_placed(arena, request, bundles)


def test_while_something_is_urgent_others_have_few_reads_under_way(files: ShardFiles, arena: Bytes) -> None:
    fake = FakeCalls()
    assert run(files, arena, request_of(list(range(COUNT))), fake, urgent=np.ones(1, np.int64))
    assert fake.most_under_way == YIELDING_DEPTH


@pytest.mark.parametrize("context", [0, 1])
def test_a_read_that_fails_says_where_and_ends_the_gather(
    files: ShardFiles, shard: Path, arena: Bytes, bundles: Bytes, context: int
) -> None:
    def fail(file: int, address: int, count: int, offset: int) -> int:
        if offset == 40960:
            raise OSError(errno.EIO, "")
        return preadv(file, address, count, offset)

    def fail_at_once(file: int, address: int, count: int, offset: int) -> int:
        return -errno.EIO if offset == 40960 else preadv(file, address, count, offset)

    fake = FakeCalls(pread=fail, finish=fail_at_once)
    with pytest.raises(DeviceError, match=f"^{shard} at offset 40960: Input/output error \\(EIO\\)$"):
        run(files, arena, request_of(list(range(COUNT)), most=1), fake, context=context)
    assert not fake._open


@pytest.mark.parametrize("context", [0, 1])
def test_a_shard_that_is_too_short_is_told_as_truncated(
    files: ShardFiles, shard: Path, arena: Bytes, bundles: Bytes, context: int
) -> None:
    shard.write_bytes(bundles.tobytes()[:50_000])
    request = request_of([2, 45, 46], most=1)
    with pytest.raises(DeviceError, match=r"ends at offset 50000, expected 4992 bytes from 45056; the file is trunc"):
        run(files, arena, request._replace(edges=np.array([0, 1, 2, 3])), FakeCalls(), context=context)


def test_a_file_system_that_refuses_direct_reads_is_read_by_way_of_the_page_cache(
    files: ShardFiles, arena: Bytes, bundles: Bytes
) -> None:
    def refuse(file: int, address: int, count: int, offset: int) -> int:
        if files.load_mode != "buffered":
            raise OSError(errno.EINVAL, "")
        return preadv(file, address, count, offset)

    request = request_of(list(range(0, COUNT, 7)))
    fake = FakeCalls(refusals=1000, pread=refuse)
    assert run(files, arena, request, fake)
    assert files.load_mode == "buffered"
    assert fake.submitted == 0
    assert_placed(arena, request, bundles)


@pytest.mark.parametrize("context", [0, 1])
def test_a_gather_that_is_cancelled_on_the_way_stops_there(
    files: ShardFiles, arena: Bytes, bundles: Bytes, context: int
) -> None:
    cancelled = np.zeros(1, np.int64)
    seen: list[int] = []

    def count(file: int, address: int, size: int, offset: int) -> int:
        seen.append(offset)
        cancelled[0] = len(seen) >= 5
        return preadv(file, address, size, offset)

    fake = FakeCalls(pread=count, finish=count)
    assert not run(files, arena, request_of(list(range(COUNT)), most=1), fake, context=context, cancelled=cancelled)
    assert 5 <= len(seen) <= 5 + GATHER_DEPTH
    assert not fake._open  # nothing writes into the buffer any more


@pytest.mark.parametrize("context", [0, 1])
def test_damaged_and_misplaced_bundles_are_refused_by_name(
    files: ShardFiles, shard: Path, arena: Bytes, bundles: Bytes, context: int
) -> None:
    damaged = bundles.copy()
    damaged[600, 700] ^= 4
    damaged[30] = bundles[31]
    shard.write_bytes(damaged.tobytes())
    for bad in (30, 600):
        arena[:] = 0
        request = request_of([bad - 1, bad, bad + 2], most=1)
        where = f"^{shard} at offset {bad * SIZE}: bundle {bad} of table {TABLE} has digest [0-9a-f]+, expected"
        with pytest.raises(CorruptDataError, match=where):
            run(files, arena, request, FakeCalls(), context=context)
        slots = arena.reshape(COUNT, SIZE)
        assert not slots[request.slots[1]].any()


CODED = Table(
    role="attn_qkv",
    layer=0,
    layout="input-channel",
    element="bf16",
    bundle_count=40,
    bundle_elements=256,
    planes=(Plane("bf16-bundles", bf16_bundle_bytes((128, 64, 64), 60)),),
    checksum_block_bytes=0,
    segments=(128, 64, 64),
)


@pytest.fixture(scope="module")
def coded() -> Bytes:
    values = np.random.default_rng(4).standard_normal((40, 256)).astype(np.float32)
    weights = (values.view(np.uint32) >> 16).astype(np.uint16)
    weights[:, 5::41] = 0x7F00  # exceptions
    return np.array(Bf16BundlesCodec().encode(weights.view(np.uint8), CODED)[0].stored).reshape(40, -1)


@pytest.mark.parametrize(
    "change", ["none", "base", "odd base", "first", "falling", "beyond", "place", "order", "equal"]
)
def test_lists_that_kernels_could_not_follow_are_refused_as_the_codec_refuses_them(
    tmp_path: Path, arena: Bytes, coded: Bytes, change: str
) -> None:
    stored = coded.copy()
    size = stored.shape[1]
    tail = stored[14, 384:].view("<u4")
    starts, entries = tail[1:5], tail[5:]
    assert starts[1] >= 2
    match change:
        case "base":
            tail[0] = 242
        case "odd base":
            tail[0] += 1
        case "first":
            starts[0] = 1
        case "falling":
            starts[1] = starts[2] + 1
        case "beyond":
            starts[3] = capacity_of(CODED) + 1
        case "place":
            entries[starts[1] - 1] |= 128 << 16
        case "order":
            entries[[0, 1]] = entries[[1, 0]]
        case "equal":
            entries[1] = entries[0]
    seal_bundles(stored, TABLE, 0)
    path = tmp_path / "coded"
    path.write_bytes(stored.tobytes())
    request = GatherRequest(
        1, np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([0, 40]), np.arange(40) * size, np.arange(40), size,
        0, 4096, BundleCheck(TABLE, np.arange(40), CODED.segments, capacity_of(CODED)),
    )  # fmt: skip
    files = ShardFiles([path], "buffered")
    bad = find_bad_bundle(stored.reshape(-1), np.arange(40) * size, CODED)
    assert bad == (None if change == "none" else 14)
    try:
        if bad is None:
            assert run(files, arena, request, find_calls(), context=0)
        else:
            with pytest.raises(CorruptDataError, match=f"bundle {bad} of table {TABLE} has exceptions out of order"):
                run(files, arena, request, find_calls(), context=0)
    finally:
        files.close()
