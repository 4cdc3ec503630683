"""Which errors were written for users: a line on stderr is all that is shown of them.

By name, so that asking imports nothing: an error's class is there when it was raised, and what the others need (Arrow,
the Hub's client) would weigh more than all the rest of a process under a ceiling.
"""

EXPECTED = frozenset(
    {
        "tidemill.runtime.engine.StepFailedError",
        "tidemill.runtime.kernel_cache.KernelError",
        "tidemill.runtime.launchers.launcher.ActorDiedError",
        "tidemill.runtime.links.link.LinkError",
        "tidemill.runtime.pull.PullError",
        "tidemill.runtime.stress.job_processes.JobError",
        "tidemill.runtime.stress.soak.campaign.SoakError",
        "tidemill.storage.errors.StorageError",
    }
)


def is_expected(error: BaseException) -> bool:
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return isinstance(error, ValueError | OSError) or not names.isdisjoint(EXPECTED)
