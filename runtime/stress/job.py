"""What a job's process and the command that began it tell one another, and what a job may ask of its surroundings."""

from typing import Protocol

import msgspec

from tidemill.runtime.stress.arena.job import ArenaJob
from tidemill.runtime.stress.compute_load import LoadJob
from tidemill.runtime.stress.link.job import LinkJob
from tidemill.runtime.stress.pipeline.job import PipelineJob
from tidemill.runtime.stress.predictor.job import PredictorJob
from tidemill.runtime.stress.reader.job import ReaderJob
from tidemill.runtime.stress.report import JobReport, LoadFigures

Job = ReaderJob | LinkJob | ArenaJob | PipelineJob | PredictorJob | LoadJob


class Progress(msgspec.Struct, frozen=True, tag=10):
    """Of one job since it began. Rates are the last slice's, latencies all orders'. `unit`: of what `ops_per_s` counts.
    `expected_s`: 0 where nobody can say how long it will take."""

    elapsed_s: float
    expected_s: float
    bytes_per_s: float
    ops_per_s: float
    unit: str
    p50_ns: int
    p99_ns: int


class RunJob(msgspec.Struct, frozen=True, tag=1):
    job: Job


class Go(msgspec.Struct, frozen=True, tag=2):
    """Every job that runs beside this one is ready."""


class StopJob(msgspec.Struct, frozen=True, tag=3):
    """Report what there is so far."""


class JobPreparing(msgspec.Struct, frozen=True, tag=11):
    """What is done before the job can begin, for people: `what`, so far."""

    what: str
    done: int
    total: int


class JobReady(msgspec.Struct, frozen=True, tag=12):
    pass


class JobDone(msgspec.Struct, frozen=True, tag=13):
    reports: tuple[JobReport, ...]


class LoadDone(msgspec.Struct, frozen=True, tag=15):
    figures: LoadFigures


class JobFailed(msgspec.Struct, frozen=True, tag=14):
    """`is_expected`: `what` was written for users; else `traceback` is of use."""

    what: str
    traceback: str
    is_expected: bool


FromCommand = RunJob | Go | StopJob
FromJob = Progress | JobPreparing | JobReady | JobDone | LoadDone | JobFailed


class JobSurroundings(Protocol):
    """What a job is given beside its description."""

    def prepare(self, what: str, done: int, total: int) -> None:
        """Tell how far preparing is. Raises StoppedError when nobody waits for it any more."""
        ...

    def await_go(self) -> None:
        """Ready: wait for those beside. Raises StoppedError."""
        ...

    def is_stopped(self) -> bool:
        """Whether to report what there is and end. Cheap: may be asked for every order."""
        ...

    def tell(self, progress: Progress) -> None: ...


class StoppedError(Exception):
    """The job was given up before it began: there is nothing to report."""
