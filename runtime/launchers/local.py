"""One spawned process per actor: the embedded default. Knows processes and sockets, not what actors do."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidemill.actors.counters import Counter, Counters, new_counters
from tidemill.actors.messages import ActorName, ComputeToEngine, EngineToCompute
from tidemill.actors.wiring import LINKS, get_link
from tidemill.runtime.cell_spec import CellRegions, CellSpec
from tidemill.runtime.control import ControlMessage, ControlSocket, Failed, Hello, PeerGoneError, Ready, Start, Stop
from tidemill.runtime.environment import child_environment
from tidemill.runtime.host import drain_fifo
from tidemill.runtime.launchers.exit_words import describe_exit, was_out_of_memory
from tidemill.runtime.launchers.launcher import ActorDiedError, CellClosedError, OutOfMemoryError
from tidemill.runtime.links.ring_link import RingLink
from tidemill.runtime.memory import out_of_memory_kills
from tidemill.runtime.region import Region
from tidemill.runtime.ring import HEADER_BYTES
from tidemill.runtime.run_directory import RunDirectory

ACTORS = (ActorName.COMPUTE, ActorName.READER, ActorName.ARENA, ActorName.PREDICTOR)
HELLO_DEADLINE_S = 120.0
READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 5.0
REAP_DEADLINE_S = 1.0  # between a socket's end-of-file and the exit status
STDERR_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class _Child:
    name: ActorName
    process: subprocess.Popen[bytes]
    control: ControlSocket


class LocalLauncher:
    """Implements Launcher. Every wait watches all control sockets, so a death is noticed at once, whatever is
    awaited."""

    name = "local"

    def __init__(self) -> None:
        self.counters: Counters = new_counters()
        self._run_directory = RunDirectory.create()
        self._children: list[_Child] = []
        self._regions: list[Region] = []
        self._fds: list[int] = []
        self._to_compute: RingLink
        self._from_compute: RingLink
        self._poller = select.poll()
        self._wake_fd = -1
        self._closed = False
        self._kills_before = out_of_memory_kills()

    def prepare(
        self,
        model_directories: Sequence[str],
        *,
        threads: int,
        selects: bool = False,
        draft_planes: bool = False,
        consumes: bool = False,
    ) -> None:
        for name in (ActorName.ENGINE, *ACTORS):
            self._run_directory.make_fifo(name)
        self._wake_fd = self._open_fifo(ActorName.ENGINE)
        for name in ACTORS:
            kernels = {"--selects": selects, "--draft-planes": draft_planes, "--consumes": consumes}
            self._spawn(name, model_directories, threads, [flag for flag, is_set in kernels.items() if is_set])
        self._await_all(Hello, HELLO_DEADLINE_S)

    def process_ids(self) -> Mapping[str, int]:
        return {"engine": os.getpid(), **{child.name.value: child.process.pid for child in self._children}}

    def start(self, spec: CellSpec) -> None:
        directory = self._run_directory.path
        arena = self._keep(Region.create("arena", spec.arena.plan.arena_bytes, directory))
        counters = self._keep(Region.create("counters", len(Counter) * 8, directory))
        links = [self._keep(Region.create(link.name, HEADER_BYTES + link.capacity_bytes, directory)) for link in LINKS]
        self.counters = counters.array.view(np.int64)
        out, back = get_link(ActorName.ENGINE, ActorName.COMPUTE), get_link(ActorName.COMPUTE, ActorName.ENGINE)
        compute_fd = self._open_fifo(ActorName.COMPUTE)
        self._to_compute = RingLink(out, links[LINKS.index(out)].view, compute_fd)
        self._from_compute = RingLink(back, links[LINKS.index(back)].view, self._wake_fd)
        regions = CellRegions(arena=arena.ref, counters=counters.ref, links=tuple(link.ref for link in links))
        for child in self._children:
            self._tell(child, Start(spec, regions))
        self._await_all(Ready, READY_DEADLINE_S)

    def send(self, message: EngineToCompute) -> None:
        self._check_open()
        self._to_compute.send(message)

    def receive(self, timeout_s: float) -> Sequence[ComputeToEngine]:
        self._check_open()
        until = time.monotonic() + timeout_s
        while True:
            messages: list[ComputeToEngine] = []
            while (message := self._from_compute.receive()) is not None:
                messages.append(message)  # type: ignore[arg-type]  # the link's union
            remaining = until - time.monotonic()
            if messages or remaining <= 0:
                return messages
            self._from_compute.set_sleeping(True)
            try:
                if self._from_compute.is_empty:
                    self._wait(min(remaining, 0.05))
            finally:
                self._from_compute.set_sleeping(False)

    def close(self) -> None:
        self._closed = True
        try:
            for child in self._children:
                try:
                    child.control.send(Stop(drain=False))
                except OSError:
                    pass  # it is gone already
            deadline = time.monotonic() + STOP_DEADLINE_S
            for child in self._children:
                self._end(child, deadline)
        finally:
            self._children.clear()
            for region in self._regions:
                region.close()
            self._regions.clear()
            for fd in self._fds:
                os.close(fd)
            self._fds.clear()
            self._run_directory.remove()

    def _check_open(self) -> None:
        """The numbers of closed fds belong to whoever opened files since: they must not be read or written."""
        if self._closed:
            raise CellClosedError("the cell is closed; open the model again")

    # --- children

    def _spawn(
        self, name: ActorName, model_directories: Sequence[str], threads: int, kernel_flags: Sequence[str]
    ) -> None:
        ours, theirs = socket.socketpair()
        arguments = ["--actor", name, "--control-fd", str(theirs.fileno()), "--threads", str(threads)]
        arguments += ["--launcher-id", str(os.getpid())]
        arguments += ["--models", *model_directories, "--run-directory", str(self._run_directory.path)]
        arguments += kernel_flags
        with theirs, self._run_directory.create_stderr(name) as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tidemill.runtime.host", *arguments],  # -P: the cwd is not on the path
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=child_environment(threads),
                process_group=0,  # Ctrl-C at a terminal goes to the parent alone
            )
        self._children.append(_Child(name, process, ControlSocket(ours)))
        self._poller.register(ours.fileno(), select.POLLIN)

    def _tell(self, child: _Child, message: ControlMessage) -> None:
        try:
            child.control.send(message)
        except OSError:
            raise self._death(child, None) from None

    def _await_all(self, kind: type[ControlMessage], deadline_s: float) -> None:
        """Wait until every child has sent a message of this kind."""
        until = time.monotonic() + deadline_s
        missing = {child.name for child in self._children}
        while missing:
            remaining = until - time.monotonic()
            if remaining <= 0:
                raise ActorDiedError(
                    f"{', '.join(sorted(missing))} did not say {kind.__name__} within {deadline_s:.0f} s"
                )
            for child, message in self._wait(remaining):
                if isinstance(message, kind):
                    missing.discard(child.name)

    def _wait(self, timeout_s: float) -> list[tuple[_Child, ControlMessage]]:
        """Wait for a wake-up or a control message. Raises ActorDiedError for a child that failed or is gone."""
        heard: list[tuple[_Child, ControlMessage]] = []
        ready = {fd for fd, _ in self._poller.poll(max(0, int(timeout_s * 1000)))}
        if self._wake_fd in ready:
            drain_fifo(self._wake_fd)
        for child in self._children:
            if child.control.fileno() not in ready:
                continue
            try:
                message = child.control.receive(0)
            except PeerGoneError:
                raise self._death(child, None) from None
            if isinstance(message, Failed):
                raise self._death(child, message)
            if message is not None:
                heard.append((child, message))
        return heard

    def _death(self, child: _Child, failed: Failed | None) -> ActorDiedError:
        try:
            status: int | None = child.process.wait(REAP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            status = None
        text = f"the {child.name} actor (process {child.process.pid}) {describe_exit(status, self._kills_before)}"
        if failed is not None:
            last_messages = ", ".join(failed.last_messages) or "none"
            text += f": {failed.what}\nlast messages: {last_messages}\n{failed.traceback.rstrip()}"
        tail = _tail(self._run_directory.stderr(child.name))
        kind = OutOfMemoryError if was_out_of_memory(status, self._kills_before) else ActorDiedError
        return kind(f"{text}\nits last output:\n{tail}" if tail else text)

    def _end(self, child: _Child, deadline: float) -> None:
        """Wait for a child that was told to stop; kill it after the deadline."""
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.send_signal(signal.SIGKILL)
            child.process.wait()
        finally:
            child.control.close()

    def _keep(self, region: Region) -> Region:
        self._regions.append(region)
        return region

    def _open_fifo(self, name: ActorName) -> int:
        fd = self._run_directory.open_fifo(name)
        self._fds.append(fd)
        if name is ActorName.ENGINE:
            self._poller.register(fd, select.POLLIN)
        return fd


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-STDERR_TAIL_BYTES:].decode(errors="replace").strip()
    except OSError:
        return ""
