"""Sees to it that compiled kernels are in the cache before a cell opens: compiling takes more memory than decoding."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tidemill.actors.compute.kernels.needed import needed_kernels
from tidemill.runtime.environment import child_environment, kernel_directory
from tidemill.runtime.events import StatusText
from tidemill.storage.bundle_plan import bundle_tables
from tidemill.storage.manifest import Manifest

COMPILE_DEADLINE_S = 600.0


class KernelError(RuntimeError):
    """The kernels cannot be compiled or stored."""


def ensure_kernels(
    model: Path,
    manifest: Manifest,
    *,
    threads: int,
    on_event: Callable[[StatusText], None],
    selects: bool = False,
    draft_planes: bool = False,
) -> None:
    """Compile what is missing in a process of its own, some 20 s once per machine and version; `selects`: the kernels
    of steps that select too; `draft_planes`: those of drafts with plane 0 too. Raises KernelError."""
    gathers = bool(bundle_tables(manifest))
    more = {"selection": selects, "coarse": draft_planes, "gather": gathers}
    kinds = [*needed_kernels(manifest), *(name for name, is_needed in more.items() if is_needed)]
    mark = kernel_directory() / f"compiled-{'+'.join(kinds)}"
    if mark.exists():
        return
    on_event(StatusText("compiling kernels (once for this machine)"))
    words = [*(["selects"] if selects else []), *(["drafts"] if draft_planes else [])]
    programs = [["tidemill.actors.compute.kernels.warm_up", str(model), str(threads), *words]]
    if gathers:
        programs.append(["tidemill.storage.devices.native.code", str(kernel_directory())])
    try:
        kernel_directory().mkdir(parents=True, exist_ok=True)
        for program in programs:
            _compile(program, threads)
        mark.touch()
    except OSError as error:
        raise KernelError(f"the kernel cache {kernel_directory()} cannot be written: {error.strerror}") from error


def _compile(program: Sequence[str], threads: int) -> None:
    """Run a module with arguments. Raises KernelError, OSError."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *program],
        env=child_environment(threads),
        capture_output=True,
        text=True,
        timeout=COMPILE_DEADLINE_S,
        check=False,
    )
    if done.returncode != 0:
        raise KernelError(f"the kernels cannot be compiled (exit status {done.returncode}):\n{done.stderr[-2000:]}")
