"""Runs one job in its own process. `python -m tidemill.runtime.stress.job_host` is what stress commands spawn."""

import argparse
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence

from tidemill.runtime.expected_errors import is_expected
from tidemill.runtime.stress.arena.job import ArenaJob
from tidemill.runtime.stress.compute_load import LoadJob, run_load
from tidemill.runtime.stress.frames import FrameSocket, PeerGoneError
from tidemill.runtime.stress.job import (
    FromCommand,
    Go,
    Job,
    JobDone,
    JobFailed,
    JobPreparing,
    JobReady,
    JobSurroundings,
    LoadDone,
    Progress,
    RunJob,
    StopJob,
    StoppedError,
)
from tidemill.runtime.stress.link.job import LinkJob
from tidemill.runtime.stress.pipeline.job import PipelineJob
from tidemill.runtime.stress.predictor.job import PredictorJob
from tidemill.runtime.stress.reader.job import ReaderJob

LOOK_EVERY_NS = 20_000_000  # a look at the socket is a system call


class _Command:
    """The command that began this job; implements JobSurroundings."""

    def __init__(self, control: FrameSocket[FromCommand]) -> None:
        self._control = control
        self._stopped = False
        self._looked_ns = 0

    def receive_job(self) -> Job:
        message = self._control.receive(None)
        assert isinstance(message, RunJob), "a job is the first that a process is told"
        return message.job

    def prepare(self, what: str, done: int, total: int) -> None:
        self._control.send(JobPreparing(what, done, total))
        if self.is_stopped():
            raise StoppedError

    def await_go(self) -> None:
        self._control.send(JobReady())
        if self._stopped or not isinstance(self._control.receive(None), Go):
            raise StoppedError

    def is_stopped(self) -> bool:
        now_ns = time.perf_counter_ns()
        if not self._stopped and now_ns - self._looked_ns > LOOK_EVERY_NS:
            self._looked_ns = now_ns
            if self._control.is_readable():
                self._stopped = isinstance(self._control.receive(0), StopJob)
        return self._stopped

    def tell(self, progress: Progress) -> None:
        self._control.send(progress)


def run_job(job: Job, surroundings: JobSurroundings) -> JobDone | LoadDone:
    """Imports what this kind of job needs, and no other."""
    match job:
        case ReaderJob():
            from tidemill.runtime.stress.reader.run import run_reader

            return JobDone((run_reader(job, surroundings),))
        case LinkJob():
            from tidemill.runtime.stress.link.run import run_link

            return JobDone((run_link(job, surroundings),))
        case ArenaJob():
            from tidemill.runtime.stress.arena.run import run_arena

            return JobDone(run_arena(job, surroundings))
        case PipelineJob():
            from tidemill.runtime.stress.pipeline.run import run_pipeline

            return JobDone((run_pipeline(job, surroundings),))
        case PredictorJob():
            from tidemill.runtime.stress.predictor.run import run_predictor

            return JobDone(run_predictor(job, surroundings))
        case LoadJob():
            return LoadDone(run_load(job, surroundings))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tidemill.runtime.stress.job_host")
    parser.add_argument("--control-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides what Ctrl-C means
    control: FrameSocket[FromCommand] = FrameSocket(socket.socket(fileno=options.control_fd), FromCommand)  # type: ignore[arg-type]
    try:
        command = _Command(control)
        control.send(run_job(command.receive_job(), command))
    except (StoppedError, PeerGoneError, BrokenPipeError):
        return 0  # nobody waits for this any more
    except Exception as error:  # noqa: BLE001  # whatever it is, the command has to hear of it
        control.send(JobFailed(str(error) or type(error).__name__, traceback.format_exc(), is_expected(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # no interpreter shutdown: threads may be inside a read
