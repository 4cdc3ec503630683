"""Actors, or the engine's own process, are killed; or stopped for a while and continued."""

import signal
import time

from tidemill.runtime.stress.soak.attempt import Attempt
from tidemill.runtime.stress.soak.disturbances.deaths import judge_death
from tidemill.runtime.stress.soak.disturbances.disturbance import Finding, disturb, judge_recovery
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import CALM, Expected, SpecificError
from tidemill.runtime.stress.soak.observation import send_signal
from tidemill.runtime.stress.soak.stage import Stage
from tidemill.runtime.stress.soak.subject_process import SubjectGoneError


class Kill:
    """With SIGKILL. An actor's death is survived by a restart, or named by an error without one; an engine's takes its
    actors with it, and `tidemill clean` removes what it left."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        cell = stage.cell(event)
        if event.variant == "engine":
            return self._kill_engine(event, stage)

        def act(made: Attempt) -> None:
            time.sleep(event.delay_s)
            send_signal(made.process_ids[event.variant], signal.SIGKILL)

        error = SpecificError("ActorDiedError", (f"the {event.variant} actor", "SIGKILL"))
        # It may come when the last token is on its way: then the next request notices it.
        expected = CALM if event.restarts else Expected(passes=True, errors=(error,))
        restarts = "restarts" if event.restarts else "no restarts"
        return disturb(stage, event, cell, act, expected, f"the {event.variant} actor was killed, {restarts}")

    def _kill_engine(self, event: Event, stage: Stage) -> Finding:
        def act(_: Attempt) -> None:
            time.sleep(event.delay_s)
            send_signal(stage.subject.process_id, signal.SIGKILL)

        finding = Finding("the engine's process was killed", "its actors end, and `tidemill clean` removes the rest")
        request = stage.request(event, stage.cell(event))
        try:
            made = stage.decode(request, at=stage.at(event), act=act)
            finding.tokens = len(made.steps)
            stage.close_cell()  # all came before it died
        except SubjectGoneError as error:
            finding.outcome, finding.error = "error", "SIGKILL"
            if "SIGKILL" not in str(error):
                finding.violations.append(f"expected a death by SIGKILL, got: {error}")
        else:
            finding.violations.append("the engine's process lives on after SIGKILL")
        stage.drop_subject()
        finding.violations += judge_death(stage)
        judge_recovery(stage, event, request, finding)
        return finding


class Stop:
    """With SIGSTOP, as a debugger, a full machine or Ctrl-Z would; nothing may be lost by waiting."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        def act(made: Attempt) -> None:
            time.sleep(event.delay_s)
            processes = made.process_ids
            victims = list(processes.values()) if event.variant == "everyone" else [processes[event.variant]]
            try:
                for victim in victims:
                    send_signal(victim, signal.SIGSTOP)
                time.sleep(event.seconds)
            finally:
                for victim in victims:
                    send_signal(victim, signal.SIGCONT)

        done = f"{event.variant} was stopped for {event.seconds:.2f} s"
        return disturb(stage, event, stage.cell(event), act, CALM, done)
