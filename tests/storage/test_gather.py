import numpy as np
import pytest

from tidemill.storage.devices.gather import GatherRequest, split_gather


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
        alignment=512,
    )


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 9])
def test_parts_cover_every_read_once_and_share_the_bundles(parts: int) -> None:
    request = request_of([0, 5, 6, 7, 8, 20], list(range(0, 64 * 20, 64)))
    got = split_gather(request, parts, urgent=True)
    assert [read for part in got for read in range(part.first, part.last)] == list(range(5))
    assert len(got) <= parts
    if parts == 2:
        counts = [int(request.edges[part.last] - request.edges[part.first]) for part in got]
        assert counts == [8, 12]


def test_the_longest_read_is_told_in_whole_blocks() -> None:
    assert request_of([0, 1, 3, 4], [0, 64, 512 - 64, 128]).read_bytes_max == 512
    assert request_of([0, 1, 3, 4], [0, 64, 513 - 64, 128]).read_bytes_max == 1024
