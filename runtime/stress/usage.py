"""What a job's process took of the machine, as fio reports it."""

import resource
from collections.abc import Mapping
from typing import NamedTuple

from tidemill.runtime.stress.report import JobReport


class ProcessUsage(NamedTuple):
    user_s: float
    system_s: float
    switches: int
    major_faults: int
    minor_faults: int

    @classmethod
    def now(cls) -> "ProcessUsage":
        """Of this process, since it began."""
        u = resource.getrusage(resource.RUSAGE_SELF)
        return cls(u.ru_utime, u.ru_stime, u.ru_nvcsw + u.ru_nivcsw, u.ru_majflt, u.ru_minflt)

    def since(self, before: "ProcessUsage") -> "ProcessUsage":
        return ProcessUsage(
            self.user_s - before.user_s,
            self.system_s - before.system_s,
            self.switches - before.switches,
            self.major_faults - before.major_faults,
            self.minor_faults - before.minor_faults,
        )


def plain_report(
    name: str, options: Mapping[str, str], elapsed_ns: int, used: ProcessUsage, *, error: int = 0
) -> JobReport:
    """What every job's report has; the verb adds its own."""
    elapsed_s = max(elapsed_ns, 1) / 1e9
    return JobReport(
        jobname=name,
        groupid=0,
        error=error,
        elapsed=round(elapsed_s),
        options=options,
        job_runtime=round(elapsed_s * 1000),
        usr_cpu=100 * used.user_s / elapsed_s,
        sys_cpu=100 * used.system_s / elapsed_s,
        ctx=used.switches,
        majf=used.major_faults,
        minf=used.minor_faults,
    )
