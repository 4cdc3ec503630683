"""The disk is full: where run directories are made, where a command writes to, where a model is converted to."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tidemill.runtime.stress.soak.disturbances.disturbance import Finding, SkippedError
from tidemill.runtime.stress.soak.disturbances.output import run_arguments
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import judge_command
from tidemill.runtime.stress.soak.small_disk import SmallDisk, find_refusal, make_disk
from tidemill.runtime.stress.soak.small_source import write_source
from tidemill.runtime.stress.soak.stage import Done, Stage

FULL = Path("/dev/full")
SAID = "space"  # "No space left on device", "no space left while writing", "free some space"
INODES = 14  # that a run directory with all that is in it takes, with the directory of all of them
SOURCE_BYTES = 5 << 20  # of what is converted, a little less than all


class FullDisk:
    """One line that says so, exit status 1, and nothing left but what a conversion goes on from."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        match event.variant:
            case "run directory":
                return self._run_directory(event, stage)
            case "stdout":
                return self._stdout(event, stage)
            case "csv":
                return self._csv(event, stage)
            case "conversion":
                return self._conversion(event, stage)
            case _:
                return self._conversion_midway(event, stage)

    def _run_directory(self, event: Event, stage: Stage) -> Finding:
        inodes = 2 + int(event.place * (INODES - 2))
        disk = _disk(stage, "runs", f"size=1m,nr_inodes={inodes}")
        done = stage.command(run_arguments(stage, event), disk=disk, environment={"XDG_RUNTIME_DIR": str(disk.path)})
        finding = _finding(f"run directories had room for {inodes} files", done)
        finding.violations += judge_left(disk.names_left(), {"tidemill"})
        return finding

    def _stdout(self, event: Event, stage: Stage) -> Finding:
        if not FULL.exists():
            raise SkippedError(f"there is no {FULL} here")
        with FULL.open("wb") as full:
            done = stage.command(run_arguments(stage, event), stdout=full)
        return _finding("stdout went to a full disk", done)

    def _csv(self, event: Event, stage: Stage) -> Finding:
        disk = _disk(stage, "csv", "size=64k", is_filled=True)
        done = stage.command(run_arguments(stage, event, "--csv", str(disk.path / "tokens.csv")), disk=disk)
        finding = _finding("--csv went to a full disk", done)
        finding.violations += judge_left(disk.names_left(), set())
        return finding

    def _conversion(self, event: Event, stage: Stage) -> Finding:
        size = 1 + int(event.place * SOURCE_BYTES / 4096)
        disk = _disk(stage, "models", f"size={4 * size}k")
        done = stage.command(["convert", str(_source(stage)), str(disk.path / "model")], disk=disk)
        finding = _finding(f"a model was converted to a disk of {4 * size} KiB", done)
        finding.violations += judge_left(disk.names_left(), set())
        return finding

    def _conversion_midway(self, event: Event, stage: Stage) -> Finding:
        """Others fill the disk meanwhile. It goes on when there is room again."""
        source, model = _source(stage), stage.grounds.path / "model"
        full = f"emulate:none,fault=enospc:@{int(event.place * SOURCE_BYTES)}"
        done = stage.command(["convert", str(source), str(model), "--device", full])
        finding = _finding("the disk was full while a model was converted", done)
        if model.exists():
            finding.violations.append(f"{model.name} has its name, though it was not finished")
        left = model.with_name("model.partial")
        finding.violations += judge_left([path.name for path in left.rglob("*.writing")], set())
        done = stage.command(["convert", str(source), str(model), "--verify"])
        finding.violations += [f"afterwards: {text}" for text in judge_command(done.status, done.stderr, {0})]
        for directory in (model, left):
            shutil.rmtree(directory, ignore_errors=True)
        return finding


def judge_left(names: Sequence[str], accepted: set[str]) -> list[str]:
    more = [name for name in names if name not in accepted]
    return [f"left behind on the full disk: {', '.join(more)}"] if more else []


def judge_full(done: Done) -> list[str]:
    missed = judge_command(done.status, done.stderr, {1})
    if SAID not in done.stderr:
        missed.append(f"stderr does not say that there is no space left: {done.stderr.strip()[-2000:]}")
    return missed


def _finding(what: str, done: Done) -> Finding:
    finding = Finding(what, "exit status 1, one line that says that there is no space", outcome="error")
    finding.error = f"exit status {done.status}"
    finding.violations += judge_full(done)
    return finding


def _disk(stage: Stage, name: str, options: str, *, is_filled: bool = False) -> SmallDisk:
    if refusal := find_refusal(stage.grounds, stage.grounds.environment()):
        raise SkippedError(refusal)
    return make_disk(stage.grounds, name, options, is_filled=is_filled)


def _source(stage: Stage) -> Path:
    directory = stage.grounds.path / "source"
    if not directory.is_dir():
        write_source(directory)
    return directory
