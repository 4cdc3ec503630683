"""What an engine's process leaves behind when it is killed: nothing that lives, and a directory that can be found."""

import time
from collections.abc import Collection

from tidemill.runtime.stress.soak.judges import judge_command
from tidemill.runtime.stress.soak.observation import marked_processes
from tidemill.runtime.stress.soak.patience import TICK_S, Patience
from tidemill.runtime.stress.soak.stage import Stage

GONE_S = 5.0  # from the death of an engine to the end of its actors


def judge_death(stage: Stage, *, living: Collection[int] = ()) -> list[str]:
    """Its actors end by themselves, but for `living`, which are others'; `tidemill clean` removes the rest."""
    missed: list[str] = []
    patience = Patience(GONE_S)
    while left := {
        process: what for process, what in marked_processes(stage.grounds.mark).items() if process not in living
    }:
        if patience.is_over:
            missed.append(f"outlive their engine by {GONE_S:.0f} s: {', '.join(left.values())}")
            break
        time.sleep(TICK_S / 10)
    done = stage.command(["clean"])
    return missed + judge_command(done.status, done.stderr, {0})
