"""A whole stress of the arena, to one report."""

from collections.abc import Sequence

from tidemill.runtime.stress.arena.job import ArenaJob
from tidemill.runtime.stress.job_processes import JobProcesses, Watcher
from tidemill.runtime.stress.report import JobReport, StressReport, make_report
from tidemill.runtime.tuning.machine import cpu_model


def run_session(job: ArenaJob, watcher: Watcher) -> StressReport:
    """Ctrl-C gives what there is. Raises JobError, JobRefusedError; KeyboardInterrupt before anything was visited."""
    with JobProcesses([job], watcher, threads=1) as processes:
        outcome = processes.run()
    return make_report(
        "arena", outcome.reports, interrupted=outcome.interrupted, cpu=cpu_model(), notes=_cliff(outcome.reports)
    )


def _cliff(jobs: Sequence[JobReport]) -> list[str]:
    """Where the caches begin to hold less than one token's demand."""
    below = [job.arena for job in jobs if job.arena is not None and job.arena.below_demand]
    if not below:
        return []
    largest = max(below, key=lambda figures: figures.arena_bytes)
    return [f"below one token's demand up to an arena of {largest.arena_bytes} bytes: {largest.below_demand}"]
