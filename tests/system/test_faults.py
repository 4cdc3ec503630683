"""Killed processes, hostile moments: an error within two seconds that names the actor, and nothing left behind."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.system.engines import GREEDY, arena_of, options, tokens_of
from tidemill.runtime.engine import Engine, StepFailedError
from tidemill.runtime.launchers.launcher import ActorDiedError
from tidemill.runtime.run_directory import clean_orphans, find_orphans, runs_directory
from tidemill.storage.manifest_file import load_manifest

PROMPT = [5, 80, 33, 2]
NOTICED_S = 2.0
GONE_S = 5.0


def wait_until_gone(process_ids: list[int]) -> None:
    deadline = time.monotonic() + GONE_S
    while any(psutil.pid_exists(process_id) for process_id in process_ids):
        assert time.monotonic() < deadline, "processes outlive their parent"
        os.sched_yield()


@pytest.mark.parametrize("victim", ["compute", "reader", "arena", "predictor"])
def test_a_killed_actor_is_named_within_two_seconds(tiny: Path, victim: str) -> None:
    with Engine.open(options(tiny, arena=arena_of(tiny, 0.2))) as engine:
        processes = engine._cell.launcher.process_ids()
        events = engine.generate(PROMPT, max_tokens=190, sampling=GREEDY, stop_ids=())
        next(events)
        os.kill(processes[victim], signal.SIGKILL)
        begun = time.monotonic()
        with pytest.raises(ActorDiedError, match=rf"the {victim} actor .* killed by signal 9 \(SIGKILL\)"):
            while True:
                for _ in events:
                    pass
                events = engine.generate(PROMPT, max_tokens=190, sampling=GREEDY, stop_ids=())
        assert time.monotonic() - begun < NOTICED_S
    wait_until_gone([process_id for name, process_id in processes.items() if name != "engine"])


def test_an_actor_that_fails_tells_why_and_what_it_handled_last(tiny: Path) -> None:
    with Engine.open(options(tiny, arena=arena_of(tiny, 0.2))) as engine:
        tokens_of(engine, PROMPT, 2)
        engine._cell.launcher._to_compute._ring.put(b"\xc1")  # type: ignore[attr-defined]  # no message at all
        with pytest.raises(ActorDiedError, match=r"(?s)the compute actor .*engine-compute.*last messages: .*Traceback"):
            tokens_of(engine, PROMPT, 2)


def test_children_of_a_killed_parent_end_and_clean_finds_what_is_left(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"""
from tests.system.engines import *
from pathlib import Path
engine = Engine.open(options(Path({str(tiny)!r}), arena=arena_of(Path({str(tiny)!r}), 0.2)))
print(*engine._cell.launcher.process_ids().values(), flush=True)
while True:
    tokens_of(engine, [5, 80, 33, 2], 100)
"""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root, env=environment
    ) as parent:
        assert parent.stdout is not None
        process_ids = [int(word) for word in parent.stdout.readline().split()]
        assert len(process_ids) == 5
        parent.kill()
    wait_until_gone(process_ids)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert len(find_orphans()) == 1
    assert [orphan.process_id for orphan in clean_orphans()] == process_ids[:1]
    assert list(runs_directory().iterdir()) == []


def test_damaged_weights_end_the_step_with_the_place_and_the_engine_goes_on(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(tiny, copy)
    manifest = load_manifest(copy)
    extent = manifest.extents[manifest.layer_extents[5]]
    shard = copy / manifest.shards[0].file
    data = bytearray(shard.read_bytes())
    data[extent.offset] ^= 1
    shard.write_bytes(data)
    with Engine.open(options(copy, arena=arena_of(copy, 0.0))) as engine:
        with pytest.raises(StepFailedError, match=r"layer 0.*could not be read in 3 tries.*checksum.*doctor --deep"):
            tokens_of(engine, PROMPT, 1)
        shard.write_bytes(
            bytes(data[: extent.offset]) + bytes([data[extent.offset] ^ 1]) + bytes(data[extent.offset + 1 :])
        )
        assert len(tokens_of(engine, PROMPT, 3)) == 3


def test_two_engines_work_at_once(tiny: Path) -> None:
    with Engine.open(options(tiny, arena=arena_of(tiny, 0.2))) as one, Engine.open(options(tiny)) as other:
        assert tokens_of(one, PROMPT, 5) == tokens_of(other, PROMPT, 5)


def test_ctrl_c_at_the_terminal_leaves_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group-wide SIGINT, as a terminal sends it, at several moments."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(tiny), "-p", "w1 w2", "-n", "400"]
    for lines in (0, 1, 2):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        assert process.stdout is not None
        children: list[psutil.Process] = []
        while len(children) < 4 and lines:
            children = psutil.Process(process.pid).children()
            if process.poll() is not None:
                break
        if lines == 2:
            process.stdout.read(1)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
        wait_until_gone([child.pid for child in children])
        assert process.returncode in (130, 1, -signal.SIGINT, 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert not runs_directory().exists() or list(runs_directory().iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_missing_dev_shm_does_not_matter(tiny: Path) -> None:
    program = (
        "from tests.system.engines import *; from pathlib import Path; "
        f"engine = Engine.open(options(Path({str(tiny)!r}), arena=arena_of(Path({str(tiny)!r}), 0.2))); "
        "print(len(tokens_of(engine, [5, 80, 33, 2], 4))); engine.close()"
    )
    script = f"mount -t tmpfs -o size=4k,mode=0555 none /dev/shm && exec {sys.executable} -c {shlex.quote(program)}"
    command = ["unshare", "--mount", "bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.stdout.strip() == "4", done.stderr
