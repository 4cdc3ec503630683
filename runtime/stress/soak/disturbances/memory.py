"""The memory cgroup that a cell is in gets smaller: while it decodes, or before it opens."""

import time

from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.soak.attempt import Attempt, attempt
from tidemill.runtime.stress.soak.disturbances.deaths import judge_death
from tidemill.runtime.stress.soak.disturbances.disturbance import Finding, judge_attempt
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import CALM, Expected, SpecificError, judge_output
from tidemill.runtime.stress.soak.memory_group import MemoryGroup, NoMemoryGroupError
from tidemill.runtime.stress.soak.messages import CellClosed, CloseCell, Decode
from tidemill.runtime.stress.soak.stage import RECOVERY_TOKENS, Stage
from tidemill.runtime.stress.soak.subject_process import SubjectGoneError, SubjectProcess

REFUSED = tuple(SpecificError(name, ()) for name in ("NotEnoughMemoryError", "CeilingTooSmallError", "MemoryError"))
KILLED = SpecificError("OutOfMemoryError", ("out of memory", "--ram"))
EXPECTED = Expected(True, (*REFUSED, KILLED))
KILLED_ENGINE = "SIGKILL"  # the kernel may choose the engine's own process, which can say nothing then


class SmallerGroup:
    """Memory that was cache is given back and the text goes on; or an error says that memory was the reason."""

    def refusal(self, stage: Stage) -> str:
        try:
            with MemoryGroup():
                return ""
        except (NoMemoryGroupError, OSError) as error:
            return f"no memory cgroup can be made: {error}"

    def run(self, event: Event, stage: Stage) -> Finding:
        with MemoryGroup() as group:
            subject = SubjectProcess(stage.grounds, name="subject-in-group", memory_group=group.path)
            try:
                finding = self._shrink(event, stage, group, subject)
            finally:
                group.set_limit(None)
                subject.close()
        return finding

    def _shrink(self, event: Event, stage: Stage, group: MemoryGroup, subject: SubjectProcess) -> Finding:
        request = stage.request(event, stage.cell(event))
        closed_bytes = _use(stage, group, subject)
        first = attempt(
            subject, Decode(request.cell, request.prompt, RECOVERY_TOKENS, request.sampling), stage.patience()
        )
        open_bytes = group.used_bytes
        limit_bytes = int(closed_bytes + event.place * (open_bytes - closed_bytes))
        done = f"the memory cgroup shrank from {format_size(open_bytes)} to {format_size(limit_bytes)}"
        finding = Finding(f"{done} {event.variant}", str(EXPECTED))
        reference = stage.reference(event)
        finding.violations += judge_output(reference[:RECOVERY_TOKENS], first.steps, first.broken, CALM)
        try:
            if event.variant == "while it decodes":
                made = self._while_decoding(event, stage, group, subject, request, limit_bytes)
            else:
                _close(stage, subject)
                group.shrink(limit_bytes)
                made = attempt(subject, request, stage.patience())
        except SubjectGoneError as error:
            finding.outcome, finding.error = "error", KILLED_ENGINE
            finding.violations += [] if KILLED_ENGINE in str(error) else [str(error)]
            finding.violations += judge_death(stage, living=stage.process_ids)
            return finding
        judged = judge_attempt(stage, event, made, EXPECTED, finding.done)
        judged.violations += finding.violations
        return judged

    def _while_decoding(
        self, event: Event, stage: Stage, group: MemoryGroup, subject: SubjectProcess, request: Decode, limit_bytes: int
    ) -> Attempt:
        def act(_: Attempt) -> None:
            time.sleep(event.delay_s)
            group.shrink(limit_bytes)

        return attempt(subject, request, stage.patience(), at=stage.at(event), act=act)


def _use(stage: Stage, group: MemoryGroup, subject: SubjectProcess) -> int:
    """Of a subject without a cell."""
    _close(stage, subject)
    return group.used_bytes


def _close(stage: Stage, subject: SubjectProcess) -> None:
    subject.send(CloseCell())
    patience = stage.patience()
    while not isinstance(subject.receive(patience), CellClosed):
        pass
