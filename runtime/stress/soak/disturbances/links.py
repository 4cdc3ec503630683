"""Links are flooded: with messages, up to where the writer has to wait, and with wake-ups."""

import os
import time
from contextlib import suppress
from pathlib import Path

from tidemill.runtime.stress.soak.attempt import Attempt
from tidemill.runtime.stress.soak.disturbances.disturbance import Finding, disturb, judge_attempt, judge_recovery
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import CALM
from tidemill.runtime.stress.soak.messages import Flood, Flooded
from tidemill.runtime.stress.soak.stage import Stage

MESSAGES = 40_000  # more than the 1 MiB of engine → compute holds, of any size
EVERY_S = 0.001
WAKE_UP = b"\0" * 4096


class FloodedLinks:
    """Nothing is lost, and the text is the same. The engine's link is the one that a program has in hand; wake-ups go
    to every actor."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        if event.variant == "wake-ups":
            return self._wake(event, stage)

        def act(_: Attempt) -> None:
            stage.subject.send(Flood(MESSAGES, event.seconds))

        request = stage.request(event, stage.cell(event))
        made = stage.decode(request, at=stage.at(event), act=act)
        done = f"{MESSAGES} messages came to compute, which was stopped for {event.seconds:.2f} s"
        finding = judge_attempt(stage, event, made, CALM, done)
        finding.violations += judge_flood(made.flooded, event.seconds)
        judge_recovery(stage, event, request, finding)
        return finding

    def _wake(self, event: Event, stage: Stage) -> Finding:
        def act(_: Attempt) -> None:
            time.sleep(event.delay_s)
            until = time.monotonic() + event.seconds
            while time.monotonic() < until:
                for fifo in stage.grounds.run_directories.glob("*/wake-*"):
                    fill_fifo(fifo)
                time.sleep(EVERY_S)

        done = f"wake-ups for everyone for {event.seconds:.2f} s, as many as their FIFOs hold"
        return disturb(stage, event, stage.cell(event), act, CALM, done)


def judge_flood(flooded: Flooded | None, stopped_s: float) -> list[str]:
    """All of it was sent, and the writer waited for its reader."""
    if flooded is None:
        return ["the flood was over after the request: its messages were not read while it ran"]
    if flooded.seconds < stopped_s:
        return [f"the flood took {flooded.seconds:.2f} s, expected to wait for compute for {stopped_s:.2f} s"]
    return []


def fill_fifo(path: Path) -> None:
    """With wake-ups; its reader may be gone."""
    with suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with suppress(BlockingIOError):
                while True:
                    os.write(fd, WAKE_UP)
        finally:
            os.close(fd)
