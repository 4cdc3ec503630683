"""Draws events, has them done one after the other, and judges what is left behind each of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from tidemill.runtime.stress.soak.attempt import Attempt
from tidemill.runtime.stress.soak.disturbances.disk import FullDisk
from tidemill.runtime.stress.soak.disturbances.disturbance import Disturbance, Finding, SkippedError
from tidemill.runtime.stress.soak.disturbances.drive import Drive
from tidemill.runtime.stress.soak.disturbances.links import FloodedLinks
from tidemill.runtime.stress.soak.disturbances.memory import SmallerGroup
from tidemill.runtime.stress.soak.disturbances.output import ClosedOutput
from tidemill.runtime.stress.soak.disturbances.processes import Kill, Stop
from tidemill.runtime.stress.soak.disturbances.shards import Damage, PageCache
from tidemill.runtime.stress.soak.event import Event, Kind
from tidemill.runtime.stress.soak.grounds import Grounds
from tidemill.runtime.stress.soak.judges import CALM, judge_output, judge_rest
from tidemill.runtime.stress.soak.observation import Observation, end_marked, observe
from tidemill.runtime.stress.soak.patience import TICK_S, Patience
from tidemill.runtime.stress.soak.report import EventReport, SoakReport, make_report, reproduce_command
from tidemill.runtime.stress.soak.schedule import KEPT, PROMPTS, draw_event
from tidemill.runtime.stress.soak.settings import SoakSettings
from tidemill.runtime.stress.soak.stage import Stage
from tidemill.runtime.stress.soak.subject_process import HungError, SubjectGoneError

DISTURBANCES: Mapping[Kind, Disturbance] = MappingProxyType(
    {
        "kill": Kill(),
        "stop": Stop(),
        "device": Drive(),
        "damage": Damage(),
        "page-cache": PageCache(),
        "stdout": ClosedOutput(),
        "flood": FloodedLinks(),
        "cgroup": SmallerGroup(),
        "full-disk": FullDisk(),
    }
)
SETTLE_S = 5.0  # until what was closed is gone
State = Literal["open", "closed"]  # of the subject's cell


class SoakError(RuntimeError):
    """The undisturbed runs, which everything is held against, did not succeed. Says how they ended."""


@dataclass(slots=True)
class SoakWatcher:
    """What a command shows meanwhile. `on_event`: before one; `on_report`: behind it."""

    on_status: Callable[[str], None] = field(default=lambda _: None)
    on_event: Callable[[Event, float], None] = field(default=lambda _event, _elapsed_s: None)
    on_report: Callable[[EventReport, float], None] = field(default=lambda _report, _elapsed_s: None)


class Campaign:
    def __init__(
        self,
        settings: SoakSettings,
        watcher: SoakWatcher,
        disturbances: Mapping[Kind, Disturbance] = DISTURBANCES,
    ) -> None:
        self._settings = settings
        self._disturbances = disturbances
        self._watcher = watcher
        self._known: dict[State, Observation] = {}
        self._reports: list[EventReport] = []
        self._begun = time.monotonic()

    def run(self) -> SoakReport:
        """Ctrl-C ends it and is part of the report, once there is any event; before, it is raised. Raises SoakError,
        StorageError, OSError."""
        interrupted = False
        with Grounds(self._settings.directory) as grounds:
            stage = Stage(self._settings, grounds)
            try:
                self._prepare(stage)
                self._begun = time.monotonic()
                self._run_events(stage)
            except KeyboardInterrupt:
                if not self._reports:
                    raise
                interrupted = True
            finally:
                stage.drop_subject()
                end_marked(grounds.mark)
        elapsed_s = time.monotonic() - self._begun
        return make_report(self._settings, self._reports, elapsed_s=elapsed_s, interrupted=interrupted)

    def _prepare(self, stage: Stage) -> None:
        """What everything is held against: the tokens of every request, and what there is of processes and the rest
        with a cell and without one."""
        try:
            for number in range(2 * PROMPTS):
                self._watcher.on_status(f"undisturbed run {number + 1} of {2 * PROMPTS}")
                _demand(stage.learn(number // 2, is_sampled=bool(number % 2)))
            self._watcher.on_status("undisturbed run with the least arena")
            weighed = stage.weigh()
            _demand(weighed, judge_output(stage.references[0, False], weighed.steps, weighed.broken, CALM))
            self._known["open"] = observe(stage.grounds, stage.subject_id)
            stage.close_cell()
            self._known["closed"] = self._settled(stage)[1]
        except (SubjectGoneError, HungError) as error:
            raise SoakError(f"an undisturbed run failed: {error}") from None

    def _run_events(self, stage: Stage) -> None:
        """Until time is over, and every kind has come at least once."""
        only = self._settings.only
        index = only or 0
        while True:
            event = draw_event(self._settings.seed, index, self._settings.kinds)
            self._watcher.on_event(event, time.monotonic() - self._begun)
            self._reports.append(self._do(stage, event))
            elapsed_s = time.monotonic() - self._begun
            self._watcher.on_report(self._reports[-1], elapsed_s)
            index += 1
            is_over = elapsed_s >= self._settings.runtime_s and index >= len(self._settings.kinds)
            if only is not None or is_over:
                return

    def _do(self, stage: Stage, event: Event) -> EventReport:
        begun = time.monotonic()
        disturbance = self._disturbances[event.kind]
        try:
            if refusal := disturbance.refusal(stage):
                raise SkippedError(refusal)
            finding = disturbance.run(event, stage)
            finding.violations += self._settled(stage)[0]
            if event.index % KEPT == KEPT - 1:
                stage.close_cell()
                finding.violations += [f"when the cell was closed: {text}" for text in self._settled(stage)[0]]
        except SkippedError as error:
            return self._report(event, Finding("", "", "skipped", violations=[str(error)]), begun)
        except (SubjectGoneError, HungError) as error:
            finding = Finding(event.text, "an end within the deadline", violations=[str(error)])
        if finding.violations:
            finding.outcome = "failed"
            _start_over(stage)
        return self._report(event, finding, begun)

    def _settled(self, stage: Stage) -> tuple[list[str], Observation]:
        """What is left behind when what ends has had time to, and what there is then."""
        patience = Patience(SETTLE_S)
        while True:
            known = self._known.get("open" if stage.cell_processes else "closed")
            now = observe(stage.grounds, stage.subject_id)
            missed = judge_rest(now, known or now, stage.process_ids)
            if not missed or patience.is_over:
                return missed, now
            time.sleep(TICK_S / 5)

    def _report(self, event: Event, finding: Finding, begun: float) -> EventReport:
        return EventReport(
            index=event.index,
            kind=event.kind,
            variant=event.variant,
            outcome=finding.outcome,
            done=finding.done,
            expected=finding.expected,
            got=tuple(finding.violations),
            error=finding.error,
            seconds=round(time.monotonic() - begun, 3),
            tokens=finding.tokens,
            retries=finding.retries,
            restarts=finding.restarts,
            peak_bytes=finding.peak_bytes,
            reproduce=reproduce_command(self._settings, event),
        )


def _demand(made: Attempt, missed: Sequence[str] = ()) -> None:
    """Raises SoakError for an undisturbed run that was not as it should be."""
    if made.broken is not None:
        missed = [made.broken.text]
    if missed:
        raise SoakError(f"an undisturbed run failed: {'; '.join(missed)}")


def _start_over(stage: Stage) -> None:
    """After a failure nothing of it is left, so that the next event is not blamed for it."""
    stage.drop_subject()
    end_marked(stage.grounds.mark)
    stage.grounds.empty()
