"""A whole stress of the predictor, to one report."""

from tidemill.runtime.stress.job_processes import JobProcesses, Watcher
from tidemill.runtime.stress.predictor.job import PredictorJob
from tidemill.runtime.stress.report import StressReport, make_report
from tidemill.runtime.tuning.machine import cpu_model


def run_session(job: PredictorJob, watcher: Watcher) -> StressReport:
    """Ctrl-C gives what there is. Raises JobError, JobRefusedError; KeyboardInterrupt before anything was predicted."""
    with JobProcesses([job], watcher, threads=1) as processes:
        outcome = processes.run()
    return make_report("predictor", outcome.reports, interrupted=outcome.interrupted, cpu=cpu_model())
