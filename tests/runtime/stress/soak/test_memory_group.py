"""A memory cgroup of our own limits what is in it and goes again, where one can be made at all."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tidemill.runtime.stress.soak.memory_group import MemoryGroup, NoMemoryGroupError

pytestmark = pytest.mark.slow


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    try:
        made = MemoryGroup()
    except NoMemoryGroupError as error:
        pytest.skip(f"no memory cgroup can be made: {error}")
    with made:
        yield made
    assert not made.path.exists()


def test_it_is_left_whatever_runs_in_it(group: MemoryGroup) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    (group.path / "cgroup.procs").write_text(str(process.pid))
    assert group.process_ids == [process.pid]
    group.set_limit(1 << 30)
    assert group.shrink(512 << 20) == 512 << 20
    assert group.used_bytes >= 0
    group.set_limit(None)
    with group:
        pass
    assert process.wait() != 0
    assert process.stdin is not None
    process.stdin.close()
    group.path.mkdir()  # for the fixture's own end
