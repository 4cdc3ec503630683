"""What became of a campaign's events: counted by kind and outcome, and each failure with how to see it again."""

import os
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec

from tidemill import __version__
from tidemill.runtime.stress.report import Machine
from tidemill.runtime.stress.soak.event import KINDS, Event
from tidemill.runtime.stress.soak.settings import SoakSettings
from tidemill.runtime.tuning.machine import cpu_model

# identical: as if nothing had been. resumed: identical behind a restart. error: the one that was to be. skipped: cannot
# be done here. failed: something was not as it should be.
Outcome = Literal["identical", "resumed", "error", "skipped", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class EventReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`got`: of a failed one, what was not as it should be; of a skipped one, why."""

    index: int
    kind: str
    variant: str
    outcome: Outcome
    done: str = ""
    expected: str = ""
    got: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0
    tokens: int = 0
    retries: int = 0
    restarts: int = 0
    peak_bytes: int = 0
    reproduce: str = ""


class SoakReport(msgspec.Struct, frozen=True, kw_only=True):
    """`counts`: by kind and outcome, kinds that came up. `ceiling_bytes`, `peak_bytes`: the largest of any cell."""

    version: str = msgspec.field(name="tidemill version")
    timestamp: int
    verb: str
    machine: Machine
    model: str
    seed: int
    runtime_s: float
    elapsed_s: float
    interrupted: bool
    tokens: int
    peak_bytes: int
    counts: Mapping[str, Mapping[str, int]]
    events: tuple[EventReport, ...]

    @property
    def failures(self) -> Sequence[EventReport]:
        return [event for event in self.events if event.outcome == "failed"]

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def count_outcomes(events: Sequence[EventReport]) -> dict[str, dict[str, int]]:
    """By kind, then outcome; every outcome has its number."""
    counts: dict[str, dict[str, int]] = {}
    for kind in KINDS:
        of_kind = [event for event in events if event.kind == kind]
        if of_kind:
            counts[kind] = {outcome: sum(e.outcome == outcome for e in of_kind) for outcome in OUTCOMES}
    return counts


def reproduce_command(settings: SoakSettings, event: Event) -> str:
    """That does this event again and no other."""
    words = ["tidemill", "stress", "soak", "-m", settings.model_name, "--seed", str(settings.seed)]
    words += ["--event", str(event.index), "--tokens", str(settings.tokens)]
    if settings.kinds != KINDS:
        words += ["--kinds", ",".join(settings.kinds)]
    return shlex.join(words)


def make_report(
    settings: SoakSettings, events: Sequence[EventReport], *, elapsed_s: float, interrupted: bool
) -> SoakReport:
    return SoakReport(
        version=__version__,
        timestamp=int(time.time()),
        verb="soak",
        machine=Machine(cpu=cpu_model(), cores=os.cpu_count() or 1, system=f"{platform.system()} {platform.release()}"),
        model=settings.model_name,
        seed=settings.seed,
        runtime_s=settings.runtime_s,
        elapsed_s=round(elapsed_s, 3),
        interrupted=interrupted,
        tokens=sum(event.tokens for event in events),
        peak_bytes=max((event.peak_bytes for event in events), default=0),
        counts=count_outcomes(events),
        events=tuple(events),
    )
