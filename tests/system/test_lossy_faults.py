"""Hostile moments of lossy runs: a reader that is killed over a gather, Ctrl-C over a trace."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.fakes.lossy_models import HALF_OF
from tests.system.test_faults import NOTICED_S, wait_until_gone
from tidemill.actors.counters import Counter
from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.launchers.launcher import ActorDiedError
from tidemill.runtime.llm import LLM
from tidemill.runtime.run_directory import runs_directory
from tidemill.storage.trace.trace_reader import TraceReader

pytestmark = pytest.mark.slow
PROMPT = [5, 80, 33, 2]
DEADLINE_S = 20.0


@pytest.mark.parametrize("preload", ["none", "scaled"])
def test_a_reader_killed_in_the_middle_of_a_gather_is_named_and_leaves_nothing(
    lossy_models: Mapping[str, Path], preload: str
) -> None:
    """Nothing stays, so every visit is a gather: the first visit after the reader stands still is one that it has."""
    with LLM.open(
        lossy_models["groups"], ram=None, arena=2_600_000, context=200, threads=1, selection=HALF_OF["groups"],
        residency="none", preload=preload,  # type: ignore[arg-type]
    ) as llm:  # fmt: skip
        launcher = llm.engine._cell.launcher
        processes = launcher.process_ids()
        events = llm.start(PROMPT, max_tokens=190).events()
        for _ in range(3):
            next_token(events)
        os.kill(processes["reader"], signal.SIGSTOP)
        used = launcher.counters[Counter.BUNDLES_USED]
        killed_at: list[float] = []

        def kill() -> None:
            deadline = time.monotonic() + DEADLINE_S
            while launcher.counters[Counter.BUNDLES_USED] == used and time.monotonic() < deadline:
                os.sched_yield()
            killed_at.append(time.monotonic())
            os.kill(processes["reader"], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(ActorDiedError, match=r"the reader actor .* killed by signal 9 \(SIGKILL\)"):
            for _ in events:
                pass
        killer.join()
        assert time.monotonic() - killed_at[0] < NOTICED_S
        assert launcher.counters[Counter.BUNDLES_USED] > used, "no visit began: the reader had nothing to gather"
    wait_until_gone([process_id for name, process_id in processes.items() if name != "engine"])


def next_token(events: Iterator[object]) -> None:
    while not isinstance(next(events), TokenGenerated):
        pass


def read_until(process: "subprocess.Popen[bytes]", moment: str, output: Path) -> None:
    """Wait for a moment of `tidemill trace -v`, or its end."""
    assert process.stderr is not None
    while process.poll() is None:
        if moment == "started" and psutil.Process(process.pid).children():
            return
        if moment == "writing" and list(output.parent.glob("*.writing")):
            return
        if moment == "decoded" and b" tok/s" in process.stderr.readline():
            return
        os.sched_yield()


@pytest.mark.parametrize("moment", ["started", "writing", "decoded"])
def test_ctrl_c_leaves_whole_positions_or_nothing_and_says_which(
    lossy_models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A group-wide SIGINT, as a terminal sends it."""
    output = tmp_path / "out" / "a.arrow"
    output.parent.mkdir()
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "trace", "-m", str(lossy_models["neurons"]), "-v",
               "-p", "w1 w2", "-n", "1000", "--ram", "none", "--select", "neuron", "--sparsity", "0.5"]  # fmt: skip
    process = subprocess.Popen(
        [*command, "-o", str(output)], env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0,
    )  # fmt: skip
    read_until(process, moment, output)
    children = [child.pid for child in psutil.Process(process.pid).children()]
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    wait_until_gone(children)
    assert process.returncode == 130, said.decode()
    kept = list(output.parent.iterdir())
    if moment == "decoded":
        assert kept == [output]
    if not kept:
        assert "a.arrow was not written" in said.decode().replace("\n", "")
    else:
        assert kept == [output]
        with TraceReader(output) as trace:
            rows = [(row.position, row.layer) for row in trace]
            layers = trace.header.layer_count
        assert rows == [(2 + i // layers, i % layers) for i in range(len(rows))]
        assert f"a.arrow: {len(rows) // layers} positions of neuron 50%" in said.decode()
        assert len(rows) % layers == 0
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert not runs_directory().exists() or list(runs_directory().iterdir()) == []
