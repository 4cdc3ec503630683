"""A whole stress of links: every launcher, payload and way to wait, one after the other, to one report."""

from collections.abc import Sequence

from tidemill.runtime.options import default_threads
from tidemill.runtime.stress.job_processes import JobProcesses, Watcher
from tidemill.runtime.stress.link.job import LinkJob
from tidemill.runtime.stress.report import Comparison, JobReport, StressReport, compare, make_report
from tidemill.runtime.tuning.machine import cpu_model

PEER = "multiprocessing.Pipe"


class LinkSession:
    """`run` gives what there is when Ctrl-C ends it, and says so."""

    def __init__(self, jobs: Sequence[LinkJob], watcher: Watcher) -> None:
        self._jobs = jobs
        self._watcher = watcher
        self._reports: list[JobReport] = []

    def run(self) -> StressReport:
        """Raises JobError, JobRefusedError; KeyboardInterrupt before anything was sent."""
        interrupted = False
        try:
            for job in self._jobs:
                with JobProcesses([job], self._watcher, threads=1) as processes:
                    outcome = processes.run()
                self._reports += outcome.reports
                interrupted = outcome.interrupted
                if interrupted:
                    break
        except KeyboardInterrupt:
            if not self._reports:
                raise
            interrupted = True
        compared = [found for report in self._reports if (found := _compare(report)) is not None]
        cores = default_threads()
        return make_report(
            "link",
            self._reports,
            interrupted=interrupted,
            cpu=cpu_model(),
            comparisons=compared,
            notes=[] if cores > 1 else ["one core: ends that spin take turns on it, and say little"],
        )


def _compare(report: JobReport) -> Comparison | None:
    link = report.link
    turns = min(len(link.turns_p50_ns), len(link.pipe_turns_p50_ns)) if link is not None else 0
    if link is None or not turns:
        return None
    return compare(report.jobname, PEER, "round_trip_p50_ns", link.turns_p50_ns[:turns], link.pipe_turns_p50_ns[:turns])
