import os
from collections.abc import Iterator

import pytest

from tidemill.actors.messages import ReadFailed
from tidemill.runtime.links.ring_link import RingLink
from tidemill.runtime.ring import HEADER_BYTES
from tidemill.runtime.stress.link.ends import (
    END,
    AbandonedError,
    RingReader,
    make_back,
    make_droppable,
    make_out,
    now_and_then,
    sequence_of,
)
from tidemill.runtime.stress.link.job import OUT, WAIT_KINDS, WaitKind


@pytest.fixture
def wake() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize("size", [8, 16, 4096])
def test_messages_of_every_kind_carry_their_number_and_their_size(size: int) -> None:
    out, back, droppable = (make(77, size) for make in (make_out, make_back, make_droppable))
    assert [sequence_of(message) for message in (out, back, droppable, END)] == [77, 77, 77, -1]
    assert len(out.tickets) == len(back.tickets) == len(droppable.bundles) == size
    with pytest.raises(TypeError, match="ReadFailed"):
        sequence_of(ReadFailed(0, ""))


@pytest.mark.parametrize("wait", WAIT_KINDS)
def test_every_way_to_wait_gets_what_was_sent_in_order(wait: WaitKind, wake: tuple[int, int]) -> None:
    memory = memoryview(bytearray(HEADER_BYTES + OUT.capacity_bytes))
    writer = RingLink(OUT, memory, wake[1])
    reader = RingReader(RingLink(OUT, memory, wake[1]), wake[0], wait, lambda: False)
    for number in range(5):
        writer.send(make_out(number, 16))
    assert [sequence_of(reader.receive()) for _ in range(5)] == list(range(5))


@pytest.mark.parametrize("wait", WAIT_KINDS)
def test_a_reader_that_nobody_writes_to_gives_up(wait: WaitKind, wake: tuple[int, int]) -> None:
    memory = memoryview(bytearray(HEADER_BYTES + OUT.capacity_bytes))
    reader = RingReader(RingLink(OUT, memory, wake[1]), wake[0], wait, lambda: True)
    os.write(wake[1], b"\0")  # a late wake-up: not even that is slept through
    with pytest.raises(AbandonedError):
        reader.receive()


def test_a_question_that_costs_is_put_now_and_then_alone() -> None:
    asked: list[bool] = []
    look = now_and_then(lambda: asked.append(True) or True)  # type: ignore[func-returns-value]
    assert look()
    for _ in range(100):
        look()
    assert len(asked) < 50
