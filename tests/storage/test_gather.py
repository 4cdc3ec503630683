import numpy as np
import pytest

from tidemill.storage.devices.gather import GatherPlacer, GatherRequest, split_gather


def request_of(edges: list[int], starts: list[int], size: int = 64) -> GatherRequest:
    reads = len(edges) - 1
    return GatherRequest(
        ticket=1,
        shards=np.zeros(reads, np.int64),
        offsets=np.arange(reads) * 4096,
        edges=np.array(edges),
        starts=np.array(starts),
        slots=np.arange(len(starts)),
        bundle_bytes=size,
        pool_offset=0,
    )


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 9])
def test_parts_cover_every_read_once_and_share_the_bundles(parts: int) -> None:
    request = request_of([0, 5, 6, 7, 8, 20], list(range(0, 64 * 20, 64)))
    got = split_gather(request, parts)
    assert [read for part in got for read in range(part.first, part.last)] == list(range(5))
    assert len(got) <= parts
    if parts == 2:
        counts = [int(request.edges[part.last] - request.edges[part.first]) for part in got]
        assert counts == [8, 12]


def test_neighbours_and_strays_of_a_read_go_to_their_slots() -> None:
    request = request_of([0, 4], [64, 128, 320, 384])._replace(slots=np.array([3, 0, 1, 5]))
    read = np.arange(448, dtype=np.uint8)
    arena = np.zeros(6 * 64, np.uint8)
    GatherPlacer(request, arena).place(0, read.data)
    slots = arena.reshape(6, 64)
    assert [int(slot[0]) if slot.any() else None for slot in slots] == [128, 320 % 256, None, 64, None, 384 % 256]
