import os
from pathlib import Path

import pytest

from tidemill.runtime.memory import (
    PeakSampler,
    ProcessMemory,
    _read_room,
    parse_cgroups,
    parse_rollup,
    process_memory,
)

ROLLUP = """55d0-7ffc ---p 00000000 00:00 0    [rollup]
Rss:               20480 kB
Pss:                9000 kB
Pss_Anon:           5000 kB
Pss_File:           3000 kB
Pss_Shmem:          1000 kB
"""


def test_rollup_is_read_in_bytes() -> None:
    assert parse_rollup(ROLLUP) == ProcessMemory(9000 * 1024, 1000 * 1024)


def test_cgroup_lines_of_both_versions_are_read() -> None:
    assert parse_cgroups("4:memory:/a/b\n0::/user.slice\nnonsense\n") == [("memory", "/a/b"), ("", "/user.slice")]


def test_this_process_weighs_something_and_a_gone_one_nothing() -> None:
    own = process_memory(os.getpid())
    assert own is not None
    assert own.total_bytes > 1 << 20
    assert process_memory(2**22 + 1) is None


def test_the_peak_holds_the_highest_sample() -> None:
    sampler = PeakSampler(lambda: {"engine": os.getpid()}, lambda: 0)
    ballast = bytearray(os.urandom(1 << 16)) * 512
    high = sampler.peak()
    del ballast
    low = sampler.peak()
    assert high.total_bytes is not None
    assert low.total_bytes is not None
    assert low.total_bytes >= high.total_bytes > 32 << 20
    sampler.stop()


@pytest.mark.parametrize(
    ("files", "room"),
    [
        ({"memory.max": "1000", "memory.current": "600", "memory.stat": "inactive_file 100\nactive_file 50"}, 550),
        ({"memory.max": "max", "memory.current": "600", "memory.stat": "inactive_file 100"}, None),
        (  # v1: the cache belongs to a child group, and so does the usage
            {
                "memory.limit_in_bytes": "1000",
                "memory.usage_in_bytes": "600",
                "memory.stat": "inactive_file 0\nactive_file 0\ntotal_inactive_file 100\ntotal_active_file 50",
            },
            550,
        ),
        ({"memory.max": "500", "memory.current": "600", "memory.stat": ""}, 0),
    ],
)
def test_a_groups_room_is_its_limit_less_what_is_not_cache(
    tmp_path: Path, files: dict[str, str], room: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert _read_room(tmp_path) == room
