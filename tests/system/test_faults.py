"""Killed processes, hostile moments: an error within two seconds that names the actor, and nothing left behind."""

import os
import resource
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


def flip(path: Path, offset: int) -> None:
    """In place: the file is read ahead meanwhile, and must not be seen truncated."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0] ^ 1
        file.seek(offset)
        file.write(bytes([byte]))


def test_damaged_weights_end_the_step_with_the_place_and_the_engine_goes_on(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(tiny, copy)
    manifest = load_manifest(copy)
    extent = manifest.extents[manifest.layer_extents[5]]
    shard = copy / manifest.shards[0].file
    flip(shard, extent.offset)
    with Engine.open(options(copy, arena=arena_of(copy, 0.0))) as engine:
        with pytest.raises(StepFailedError, match=r"layer 0.*could not be read in 2 tries.*checksum.*doctor --deep"):
            tokens_of(engine, PROMPT, 1)
        flip(shard, extent.offset)
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


def test_the_current_directory_is_not_imported_from(tiny: Path, tmp_path: Path) -> None:
    """A model's own directory, or one full of scripts, is a place to run in: nothing there is code of ours."""
    for name in ("select", "signal", "platform", "numpy", "tidemill"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current directory')")
    program = "import sys; sys.path.remove(''); from tidemill.runtime.cli.main import main; main()"
    command = [sys.executable, "-c", program, "run", "-m", str(tiny), "-p", "w1 w2", "-n", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_end_leaves_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(tiny), "-p", "w1 w2", "-n", "400"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        children = [child.pid for child in psutil.Process(process.pid).children()]
        process.send_signal(number)
        process.communicate()  # closing our end first would make it a broken pipe
    assert process.returncode == 128 + number
    wait_until_gone(children)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert list(runs_directory().iterdir()) == []


def test_actors_end_with_their_parent_though_a_process_that_it_forked_lives_on(tiny: Path, tmp_path: Path) -> None:
    """A fork holds copies of the parent's ends of the control sockets."""
    program = f"""
from tests.system.engines import *
import os, signal
from pathlib import Path
engine = Engine.open(options(Path({str(tiny)!r}), arena=arena_of(Path({str(tiny)!r}), 0.2)))
forked = os.fork()
if forked == 0:
    signal.pause()
print(forked, *engine._cell.launcher.process_ids().values(), flush=True)
signal.pause()
"""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        forked, *process_ids = (int(word) for word in parent.stdout.readline().split())
        parent.kill()
    try:
        wait_until_gone(process_ids)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_a_cell_in_one_process_that_cannot_be_built_leaves_no_thread(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is built before compute: its threads are ended too (the guard of every test looks for them)."""

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("tidemill.actors.compute.decoder.Decoder.__init__", refuse)
    with pytest.raises(MemoryError, match="no room"):
        Engine.open(options(tiny, launcher="in-process"))


def test_many_open_files_do_not_matter(tiny: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with Engine.open(options(tiny, launcher="in-process", arena=arena_of(tiny, 0.2))) as engine:
            assert len(tokens_of(engine, PROMPT, 3)) == 3
    finally:
        for fd in files:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
