"""Whoever reads a command's output goes away."""

import os
import subprocess

from tidemill.runtime.stress.soak.disturbances.disturbance import Finding
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import judge_command
from tidemill.runtime.stress.soak.stage import TEXTS, Stage

FEW_BYTES = 40
EXIT_FAILED = 1


class ClosedOutput:
    """`tidemill run` ends with exit status 1, without a traceback, and leaves nothing."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        few = 1 + int(event.place * FEW_BYTES)
        count = 0 if event.variant in ("at once", "of --json") else few
        arguments = run_arguments(stage, event, *(["--json"] if event.variant == "of --json" else []))
        with_stderr = event.variant == "with stderr"
        process = stage.spawn(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if with_stderr else subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            if count:
                os.read(process.stdout.fileno(), count)
            process.stdout.close()
            _, stderr = stage.follow(process)
        done = f"stdout was closed, {event.variant}" + (f" ({count} bytes were read)" if count else "")
        finding = Finding(
            done, "exit status 1, no traceback", outcome="error", error=f"exit status {process.returncode}"
        )
        finding.violations += judge_command(process.returncode, stderr.decode(errors="replace"), {EXIT_FAILED})
        return finding


def run_arguments(stage: Stage, event: Event, *more: str) -> list[str]:
    settings = stage.settings
    arena = stage.arena_bytes(event.share)
    return [
        *("run", "-m", str(settings.model), "-p", TEXTS[event.prompt], "-n", str(settings.tokens)),
        *("--ram", "none", "--arena", str(arena), *more),
    ]
