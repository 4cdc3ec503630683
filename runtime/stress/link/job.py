"""What a link job is described by, and what it finds out."""

from typing import Literal, get_args

import msgspec

from tidemill.actors.messages import ActorName
from tidemill.actors.wiring import get_link
from tidemill.runtime.options import LauncherName
from tidemill.runtime.stress.latency_stats import LatencyStats

# spin: looks again at once, on a core of its own. block: sleeps in the kernel until it is woken. host: as actors'
# processes do, a short spin, then sleep.
WaitKind = Literal["spin", "block", "host"]
WAIT_KINDS: tuple[WaitKind, ...] = get_args(WaitKind)
# Wide enough for any payload, with answers of the same sort the other way; and one whose messages may be dropped.
OUT = get_link(ActorName.ARENA, ActorName.READER)
BACK = get_link(ActorName.READER, ActorName.ARENA)
DROPPING = get_link(ActorName.COMPUTE, ActorName.PREDICTOR)
PAYLOAD_MAX = 32 << 10  # beyond, a link would hold a handful of messages


class LinkJob(msgspec.Struct, frozen=True, kw_only=True, tag=3):
    """`runtime_s`: of all phases together. `pause_us`: what a slow reader takes for each message. `is_stuck`: also
    find out what becomes of a writer whose reader stops for good, which takes as long as the link's deadline."""

    name: str
    launcher: LauncherName
    wait: WaitKind
    payload_bytes: int
    runtime_s: float
    pause_us: int = 200
    is_stuck: bool = False


class SlowReader(msgspec.Struct, frozen=True, kw_only=True):
    """A writer that is faster than its reader. Certain messages: it waits, nothing is lost; `lost` counts what did not
    arrive, or not in order. Droppable ones: it goes on, and the link drops what finds no room."""

    pause_ns: int
    certain_sent: int
    certain_lost: int
    certain_error: str  # where a link cannot wait, how it refuses
    send_ns: LatencyStats
    waited_share: float  # of the writer's time
    droppable_sent: int
    droppable_dropped: int
    droppable_lost: int  # neither dropped nor received


class LinkFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`round_trip_ns`: a message there and one of the same size back, encoded and decoded at both ends. `turns_p50_ns`,
    `pipe_turns_p50_ns`: of each turn. Rates are one way."""

    launcher: str
    wait: str
    payload_bytes: int
    link: str
    capacity_bytes: int
    round_trip_ns: LatencyStats
    turns_p50_ns: tuple[int, ...]
    messages_per_s: float
    bytes_per_s: float
    slow_reader: SlowReader
    pipe_round_trip_ns: LatencyStats | None = None
    pipe_turns_p50_ns: tuple[int, ...] = ()
    stuck_after_s: float = 0.0
    stuck_error: str = ""

    def without_bins(self) -> "LinkFigures":
        pipe, slow = self.pipe_round_trip_ns, self.slow_reader
        return msgspec.structs.replace(
            self,
            round_trip_ns=self.round_trip_ns.without_bins(),
            pipe_round_trip_ns=None if pipe is None else pipe.without_bins(),
            slow_reader=msgspec.structs.replace(slow, send_ns=slow.send_ns.without_bins()),
        )


def check_job(job: LinkJob) -> LinkJob:
    """Raises ValueError that names the option and what is accepted."""
    checks = [
        ("launcher", job.launcher, job.launcher in ("local", "in-process"), "local, in-process"),
        ("wait", job.wait, job.wait in WAIT_KINDS, ", ".join(WAIT_KINDS)),
        ("payload", job.payload_bytes, 8 <= job.payload_bytes <= PAYLOAD_MAX, f"8 to {PAYLOAD_MAX} bytes"),
        ("pause-us", job.pause_us, 1 <= job.pause_us <= 100_000, "1 to 100000"),
    ]
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"--{name} is {value}, accepted: {accepted}")
    return job
