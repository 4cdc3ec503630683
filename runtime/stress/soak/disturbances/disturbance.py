"""The contract of a kind of harm: whether it can be done here, and what it found when it was."""

from dataclasses import dataclass, field
from typing import Protocol

from tidemill.runtime.stress.soak.attempt import Act, Attempt
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import CALM, Expected, judge_counts, judge_memory, judge_output
from tidemill.runtime.stress.soak.messages import CellChoice, Decode
from tidemill.runtime.stress.soak.report import Outcome
from tidemill.runtime.stress.soak.stage import RECOVERY_TOKENS, Stage


@dataclass(slots=True)
class Finding:
    """`done`: what was done, and `expected` of it, in words. `violations`: what was not as it should be."""

    done: str
    expected: str
    outcome: Outcome = "identical"
    error: str = ""
    tokens: int = 0
    retries: int = 0
    restarts: int = 0
    peak_bytes: int = 0
    violations: list[str] = field(default_factory=list)


class Disturbance(Protocol):
    def refusal(self, stage: Stage) -> str:
        """Why it can't be done here; empty where it can."""
        ...

    def run(self, event: Event, stage: Stage) -> Finding:
        """Do it, judge what came of the request, and leave everything as it was. Raises SubjectGoneError, HungError,
        SkippedError."""
        ...


class SkippedError(Exception):
    """This one can't be done here after all: the text says why."""


def disturb(stage: Stage, event: Event, cell: CellChoice, act: Act, expected: Expected, done: str) -> Finding:
    """Decode by `cell` with `act` on the way and judge it; then that the same cell, or another one if it is gone,
    decodes as ever."""
    request = stage.request(event, cell)
    made = stage.decode(request, at=stage.at(event), act=act)
    finding = judge_attempt(stage, event, made, expected, done)
    judge_recovery(stage, event, request, finding, expected if made.broken is None else CALM)
    return finding


def judge_attempt(stage: Stage, event: Event, made: Attempt, expected: Expected, done: str) -> Finding:
    finding = Finding(done, str(expected), tokens=len(made.steps), restarts=made.restarts)
    finding.retries = made.counts["retries"] + made.counts["rereads"]
    finding.violations += judge_output(stage.reference(event), made.steps, made.broken, expected)
    if made.broken is not None:
        finding.outcome, finding.error = "error", made.broken.kinds[0]
        return finding
    assert made.ended is not None, "a request ends in one of both"
    finding.peak_bytes = made.ended.peak_bytes or 0
    finding.violations += judge_counts(made.counts, expected)
    finding.violations += judge_memory(made.ended.peak_bytes, made.ended.ceiling_bytes)
    if made.restarts:
        finding.outcome = "resumed"
    return finding


def judge_recovery(stage: Stage, event: Event, request: Decode, finding: Finding, first: Expected = CALM) -> None:
    """Behind the event the same request begins as ever. `first`: how its first step may end, which is the one that
    notices what was done beside the last token."""
    again = stage.recover(request)
    reference = stage.reference(event)[:RECOVERY_TOKENS]
    if again.broken is not None and first.errors:
        finding.violations += judge_output(reference, again.steps, again.broken, first)
        finding.outcome, finding.error = "error", again.broken.kinds[0]
        again = stage.recover(request)
    if again.restarts:
        finding.outcome = "resumed"
        finding.restarts += again.restarts
    missed = judge_output(reference, again.steps, again.broken, CALM)
    finding.violations += [f"afterwards: {text}" for text in missed]
