"""A minute of harm of every kind; and harm that is done to the campaign's own judges, which have to notice it."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tidemill.runtime.stress.soak.attempt import Attempt
from tidemill.runtime.stress.soak.campaign import Campaign, SoakWatcher
from tidemill.runtime.stress.soak.disturbances.disturbance import Finding, disturb
from tidemill.runtime.stress.soak.disturbances.shards import copy_model, flip
from tidemill.runtime.stress.soak.disturbances.streamed import streamed_extents
from tidemill.runtime.stress.soak.event import KINDS, Event, Kind
from tidemill.runtime.stress.soak.judges import CALM
from tidemill.runtime.stress.soak.settings import SoakSettings
from tidemill.runtime.stress.soak.stage import Stage

SEED = 6
TOKENS = 200


@pytest.mark.timeout(150)
def test_a_minute_of_every_kind_of_harm(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "stress", "soak", "-m", str(tiny), "--runtime", "60s"]
    command += ["--seed", str(SEED), "--tokens", str(TOKENS), "--directory", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert set(report["counts"]) == set(KINDS)
    outcomes = Counter(event["outcome"] for event in report["events"])
    assert outcomes["failed"] == 0
    assert outcomes["identical"] + outcomes["resumed"] + outcomes["error"] >= len(KINDS) - 2  # no cgroup, no mount
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(150)
def test_ctrl_c_gives_the_report_so_far_and_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "stress", "soak", "-m", str(tiny), "--kinds", "stop"]
    command += ["--tokens", str(TOKENS), "--directory", str(tmp_path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = [process.stderr.readline()]
        while not told[-1].startswith("event 0"):
            assert told[-1], told
            told.append(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        output, stderr = process.communicate()
    assert process.returncode == 130, stderr
    report = json.loads(output)
    assert report["interrupted"]
    assert report["counts"]["stop"]["identical"] >= 1
    assert list(tmp_path.iterdir()) == []


class LeftProcess:
    """Planted: a process outlives its event."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        process = subprocess.Popen(command, env=stage.grounds.environment(), start_new_session=True)
        process.returncode = 0  # nobody waits for it
        stage.grounds.run_directories.mkdir(mode=0o700, exist_ok=True)
        (stage.grounds.run_directories / "1-planted").mkdir(mode=0o700)
        return disturb(stage, event, stage.cell(event), lambda _: None, CALM, "planted a process and a directory")


class Hang:
    """Planted: everyone is stopped for good."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        def act(made: Attempt) -> None:
            for process in made.process_ids.values():
                os.kill(process, signal.SIGSTOP)

        return disturb(stage, event, stage.cell(event), act, CALM, "planted a hang")


class WrongTokens:
    """Planted: what comes differs in one bit of the logits from what an undisturbed run gave."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        right = stage.reference(event)
        stage.references[event.prompt, event.is_sampled] = [(token, checksum ^ 1) for token, checksum in right]
        try:
            return disturb(stage, event, stage.cell(event), lambda _: None, CALM, "planted another reference")
        finally:
            stage.references[event.prompt, event.is_sampled] = right


class DamageBeforehand:
    """Planted: bytes are wrong where nothing was to be."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        copy = copy_model(stage)
        shards = stage.shards(copy)
        for _, extent in streamed_extents(stage.manifest, stage.arena_plan(0.0)):
            flip(shards[extent.shard], extent.offset, b"\xff")
        cell = stage.cell(event, model=copy, share=0.0)
        return disturb(stage, event, cell, lambda _: None, CALM, "planted damage")


@pytest.mark.timeout(150)
def test_planted_harm_is_noticed_and_the_next_event_is_not_blamed_for_it(tiny: Path, tmp_path: Path) -> None:
    planted: dict[Kind, tuple[object, str]] = {
        "kill": (LeftProcess(), "processes left behind"),
        "stop": (Hang(), "nothing came for 15 s"),
        "device": (DamageBeforehand(), "got StepFailedError"),
        "flood": (WrongTokens(), "wrong logits at place 0"),
    }
    settings = SoakSettings(
        model=tiny,
        model_name="tiny",
        seed=1,
        runtime_s=0.1,
        tokens=40,
        deadline_s=15.0,
        directory=tmp_path,
        kinds=tuple(planted),
    )
    disturbances = {kind: disturbance for kind, (disturbance, _) in planted.items()}
    report = Campaign(settings, SoakWatcher(), disturbances).run()  # type: ignore[arg-type]  # by kind, each one
    assert len(report.failures) == len(planted)
    for event in report.events:
        got = "\n".join(event.got)
        assert planted[event.kind][1] in got  # type: ignore[index]  # a kind, as text
        if event.kind == "kill":
            assert "run directories: 2, expected 1" in got
        if event.kind == "stop":
            assert "T (stopped)" in got  # where every process was
        else:
            assert len(event.got) <= 4
    assert list(tmp_path.iterdir()) == []
