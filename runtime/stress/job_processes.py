"""Jobs beside one another, each in a process of its own, from one command: begun together, watched, ended together."""

import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO

from tidemill.runtime.environment import child_environment
from tidemill.runtime.launchers.exit_words import describe_exit
from tidemill.runtime.stress.compute_load import LoadJob
from tidemill.runtime.stress.frames import FrameSocket, PeerGoneError
from tidemill.runtime.stress.job import (
    FromJob,
    Go,
    Job,
    JobDone,
    JobFailed,
    JobPreparing,
    JobReady,
    LoadDone,
    Progress,
    RunJob,
    StopJob,
)
from tidemill.runtime.stress.report import JobReport, LoadFigures

STOP_DEADLINE_S = 30.0  # a drive may be in the middle of a long read
STDERR_TAIL_BYTES = 2000


class JobError(RuntimeError):
    """A job's process failed in a way that is no user's fault, or ended. Says how."""


class JobRefusedError(ValueError):
    """A job cannot be done; the text is for users."""


@dataclass(slots=True)
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    control: FrameSocket[FromJob]
    stderr: IO[bytes]
    is_ready: bool = False
    progress: Progress | None = None
    reports: tuple[JobReport, ...] | None = None
    figures: LoadFigures | None = None

    @property
    def is_done(self) -> bool:
        return self.reports is not None or self.figures is not None


@dataclass(frozen=True, slots=True)
class JobsOutcome:
    """`interrupted`: by Ctrl-C; reports are then of what was done up to there."""

    reports: Sequence[JobReport]
    load: LoadFigures | None
    interrupted: bool


@dataclass(slots=True)
class Watcher:
    """What a command shows while jobs prepare and run."""

    on_preparing: Callable[[JobPreparing], None] = field(default=lambda _: None)
    on_progress: Callable[[Sequence[Progress]], None] = field(default=lambda _: None)


class JobProcesses:
    """A context manager that leaves no process behind. Jobs that only load the machine end with the last other one."""

    def __init__(self, jobs: Sequence[Job], watcher: Watcher, *, threads: int) -> None:
        """`threads`: of kernels, for jobs that have any."""
        self._jobs = jobs
        self._watcher = watcher
        self._threads = threads
        self._children: list[_Child] = []

    def __enter__(self) -> "JobProcesses":
        try:
            for job in self._jobs:
                self._children.append(self._spawn(job))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self) -> JobsOutcome:
        """Ctrl-C ends the jobs, once they have begun, and is part of the outcome; before, and a second time, it is
        raised. Raises JobError, JobRefusedError."""
        while not all(child.is_ready for child in self._children):
            self._watch(1.0)
        for child in self._children:
            child.control.send(Go())
        interrupted = False
        try:
            self._until_done()
        except KeyboardInterrupt:
            interrupted = True
            self._stop(self._children)
            self._until_done(time.monotonic() + STOP_DEADLINE_S)
        reports = [report for child in self._children for report in child.reports or ()]
        figures = [child.figures for child in self._children if child.figures is not None]
        return JobsOutcome(reports, figures[0] if figures else None, interrupted)

    def _until_done(self, deadline: float = float("inf")) -> None:
        while not all(child.is_done for child in self._children):
            self._watch(0.2)
            shown = [child.progress for child in self._children if child.progress is not None]
            if shown:
                self._watcher.on_progress(shown)
            rest = [child for child in self._children if not child.is_done]
            if rest and all(isinstance(child.job, LoadJob) for child in rest):
                self._stop(rest)
            if time.monotonic() > deadline:
                raise JobError(f"a job did not end within {STOP_DEADLINE_S:.0f} s of being told to; a read may hang")

    def _stop(self, children: Sequence[_Child]) -> None:
        for child in children:
            if not child.is_done:
                try:
                    child.control.send(StopJob())
                except OSError:
                    pass  # it is gone, which its socket will tell

    def _watch(self, timeout_s: float) -> None:
        ready = select.select([c.control for c in self._children if not c.is_done], [], [], timeout_s)[0]
        for child in self._children:
            if child.control in ready:
                self._hear(child)

    def _hear(self, child: _Child) -> None:
        try:
            message = child.control.receive(0)
        except PeerGoneError:
            raise JobError(self._death(child)) from None
        match message:
            case JobPreparing():
                self._watcher.on_preparing(message)
            case JobReady():
                child.is_ready = True
            case Progress():
                child.progress = message
            case JobDone(reports=reports):
                child.reports = reports
            case LoadDone(figures=figures):
                child.figures = figures
            case JobFailed(what=what, is_expected=True):
                raise JobRefusedError(what)
            case JobFailed(what=what, traceback=trace):
                raise JobError(f"a job failed: {what}\n{trace.rstrip()}")
            case None:
                pass

    def _spawn(self, job: Job) -> _Child:
        ours, theirs = socket.socketpair()
        stderr = tempfile.TemporaryFile(prefix="tidemill-stress-")  # noqa: SIM115  # closed with the process
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tidemill.runtime.stress.job_host", "--control-fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=child_environment(self._threads),
                process_group=0,  # Ctrl-C at a terminal goes to the command alone
            )
        control: FrameSocket[FromJob] = FrameSocket(ours, FromJob)  # type: ignore[arg-type]  # a union is no type
        child = _Child(job, process, control, stderr)
        control.send(RunJob(job))
        return child

    def _death(self, child: _Child) -> str:
        status = child.process.wait(5.0)
        child.stderr.seek(0)
        tail = child.stderr.read()[-STDERR_TAIL_BYTES:].decode(errors="replace").strip()
        text = f"a job's process ({child.process.pid}) {describe_exit(status, None)}"
        return f"{text}\nits last output:\n{tail}" if tail else text

    def _close(self) -> None:
        for child in self._children:
            child.control.close()
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGKILL)
            child.process.wait()
            child.stderr.close()
        self._children.clear()
