"""How a process ended, in words that say what to do."""

import signal

from tidemill.runtime.memory import out_of_memory_kills


def describe_exit(status: int | None, kills_before: int | None) -> str:
    """`status` as of subprocess; `kills_before` the cgroup's count of out-of-memory kills when the cell was opened."""
    if status is None:
        return "does not answer and did not end"
    if status >= 0:
        return f"ended with exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else "unknown"
    text = f"was killed by signal {-status} ({name})"
    if -status != signal.SIGKILL:
        return text
    if kills := _memory_kills_since(kills_before):
        counted = f"the memory cgroup counted {kills} such kill"
        return f"{text}: out of memory: {counted}; give a larger limit or a smaller --ram"
    return f"{text}; not by its memory cgroup: somebody killed it, or the whole machine ran out of memory"


def was_out_of_memory(status: int | None, kills_before: int | None) -> bool:
    """As `describe_exit` says it."""
    return status == -signal.SIGKILL and _memory_kills_since(kills_before) > 0


def _memory_kills_since(before: int | None) -> int:
    now = out_of_memory_kills()
    return 0 if now is None or before is None else max(0, now - before)
