import pytest

from tests.fakes.stress import FakeSurroundings
from tidemill.runtime.options import LauncherName
from tidemill.runtime.stress.link.job import WAIT_KINDS, LinkFigures, LinkJob, WaitKind, check_job
from tidemill.runtime.stress.link.run import run_link


def figures(launcher: LauncherName, wait: WaitKind, *, stopped: bool = False, **changes: object) -> LinkFigures:
    job = LinkJob(name="a", launcher=launcher, wait=wait, payload_bytes=2048, runtime_s=0.2, **changes)  # type: ignore[arg-type]
    found = run_link(job, FakeSurroundings(stop_after=0 if stopped else None)).link
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("wait", WAIT_KINDS)
def test_between_processes_nothing_is_lost_and_a_slow_reader_makes_its_writer_wait(wait: WaitKind) -> None:
    found = figures("local", wait)
    assert found.round_trip_ns.N > 0
    assert found.pipe_round_trip_ns is not None
    assert len(found.turns_p50_ns) == len(found.pipe_turns_p50_ns) == 4
    assert found.messages_per_s > 0
    slow = found.slow_reader
    assert (slow.certain_lost, slow.certain_error) == (0, "")
    assert slow.certain_sent > 0
    assert slow.droppable_dropped > 0
    assert slow.droppable_lost == 0


@pytest.mark.slow
def test_inside_one_thread_a_full_link_is_an_error_at_once_and_what_may_be_dropped_is() -> None:
    found = figures("in-process", "spin")
    assert found.pipe_round_trip_ns is None
    assert found.slow_reader.certain_error.startswith("link arena-reader is full")
    assert found.slow_reader.certain_lost == 0
    assert found.slow_reader.droppable_dropped > 0
    assert found.slow_reader.droppable_lost == 0


@pytest.mark.slow
@pytest.mark.system
def test_being_stopped_gives_a_report_of_what_there_is() -> None:
    found = figures("local", "spin", stopped=True)
    assert (found.round_trip_ns.N, found.slow_reader.droppable_sent, found.turns_p50_ns) == (0, 0, ())


@pytest.mark.slow
@pytest.mark.system
def test_a_reader_that_stops_for_good_ends_its_writer_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.runtime.links.ring_link.FULL_DEADLINE_S", 0.05)
    found = figures("local", "block", is_stuck=True)
    assert 0.05 <= found.stuck_after_s < 5
    assert "reader does not read" in found.stuck_error


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"launcher": "cloud"}, "--launcher is cloud, accepted: local, in-process"),
        ({"wait": "hope"}, "--wait is hope, accepted: spin, block, host"),
        ({"payload_bytes": 4}, "--payload is 4, accepted: 8 to 32768 bytes"),
        ({"payload_bytes": 1 << 20}, "--payload"),
        ({"pause_us": 0}, "--pause-us"),
    ],
)
def test_what_cannot_be_is_refused_by_its_option(changes: dict[str, object], says: str) -> None:
    plain = {"name": "a", "launcher": "local", "wait": "spin", "payload_bytes": 64, "runtime_s": 1.0}
    with pytest.raises(ValueError, match=says):
        check_job(LinkJob(**{**plain, **changes}))  # type: ignore[arg-type]
