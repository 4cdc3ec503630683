"""The wiring table: every message has exactly one link, and the page that people read says the same as the code."""

import typing
from pathlib import Path

import pytest

from tidemill.actors import messages
from tidemill.actors.messages import ActorName
from tidemill.actors.wiring import LINKS, WhenFull, get_link, links_read_by, links_written_by

PAGE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def members(union: object) -> tuple[type, ...]:
    return typing.get_args(union) or (typing.cast(type, union),)


def test_every_message_type_travels_on_exactly_one_link() -> None:
    carried = [kind for link in LINKS for kind in members(link.union)]
    assert len(carried) == len(set(carried))
    assert set(carried) == set(typing.get_args(messages.Message))


def test_tags_are_unique() -> None:
    tags = [kind.__struct_config__.tag for link in LINKS for kind in members(link.union)]  # type: ignore[attr-defined]
    assert len(tags) == len(set(tags))


def test_links_are_found_from_both_ends() -> None:
    for link in LINKS:
        assert link in links_read_by(link.reader)
        assert link in links_written_by(link.writer)
        assert get_link(link.writer, link.reader) is link
    with pytest.raises(KeyError, match="no link from reader to compute"):
        get_link(ActorName.READER, ActorName.COMPUTE)


def test_the_architecture_page_has_the_same_table() -> None:
    page = PAGE.read_text()
    for link in LINKS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {link.writer} → {link.reader} |")]
        for kind in members(link.union):
            assert kind.__name__ in row
        size = link.capacity_bytes // 1024
        assert (f"{size} KiB" if size < 1024 else f"{size // 1024} MiB") in row
        droppable = [kind for kind in members(link.union) if kind in link.droppable]
        assert all(kind.__name__ + " is dropped" in row for kind in droppable)
        assert droppable or "| waits |" in row


def test_only_progress_may_be_dropped() -> None:
    link = get_link(ActorName.COMPUTE, ActorName.ENGINE)
    assert link.when_full(messages.StepProgressed(1, 2, 3)) is WhenFull.DROP
    assert link.when_full(messages.StepCancelled(1)) is WhenFull.WAIT
