"""Runs one actor in its own process: links in, actor, links out. `python -m tidemill.runtime.host` is what launchers
spawn."""

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tidemill.actors.actor import Actor, Send
from tidemill.actors.messages import ActorName
from tidemill.actors.wiring import LINKS, links_read_by, links_written_by
from tidemill.runtime.assembly import build_actor, prepare_actor
from tidemill.runtime.control import ControlSocket, Failed, Hello, PeerGoneError, Ready, Start, Stop, Stopped
from tidemill.runtime.links.ring_link import RingLink
from tidemill.runtime.region import Region
from tidemill.runtime.run_directory import RunDirectory

# Looked for messages before sleeping. 0, 5 and 30 µs measured alike (98, 105, 99 ms a token), so the one that leaves
# compute its core.
SPIN_NS = 5_000
SLEEP_MS = 50  # backstop for a wake-up lost to store reordering
BATCH = 64  # messages handled from one link before the others get their turn
REMEMBERED = 16  # names of messages kept for the report of a failure


class ActorHost:
    """Owns the process's ends of the links. Returns from `run` when told to stop; raises what the actor raises."""

    def __init__(self, name: ActorName, control: ControlSocket, run_directory: RunDirectory) -> None:
        self._name = name
        self._control = control
        self._run_directory = run_directory
        self._actor: Actor
        self._links_in: list[RingLink] = []
        self._links_out: dict[ActorName, RingLink] = {}
        self._wake_fd = run_directory.open_fifo(name)
        self.last_messages: deque[str] = deque(maxlen=REMEMBERED)

    def build(self, start: Start) -> None:
        """Attach the regions and build the actor."""
        regions = start.regions
        for link, ref in zip(LINKS, regions.links, strict=True):
            if self._name not in (link.writer, link.reader):
                continue
            region = Region.attach(ref)
            ring = RingLink(link, region.view, self._run_directory.open_fifo(link.reader))
            if link in links_read_by(self._name):
                self._links_in.append(ring)
            else:
                assert link in links_written_by(self._name)
                self._links_out[link.reader] = ring
        counters = Region.attach(regions.counters).array.view(np.int64)
        arena = None
        if self._name in (ActorName.READER, ActorName.COMPUTE):
            region = Region.attach(regions.arena)
            region.advise_huge_pages()
            arena = region.array
        self._actor = build_actor(self._name, start.spec, arena, counters)

    def run(self) -> None:
        """Deliver messages until the launcher says stop. Raises PeerGoneError when the launcher is gone."""
        self._send(self._actor.start())
        self._control.send(Ready())
        poller = select.poll()
        for fd in (self._wake_fd, self._control.fileno(), *self._actor.wake_fds):
            poller.register(fd, select.POLLIN)
        while True:
            busy = self._deliver()
            self._send(self._actor.poll(time.perf_counter_ns()))
            ready = poller.poll(0) if busy or self._actor.wants_poll else self._sleep(poller, SLEEP_MS)
            for fd, _ in ready:
                if fd == self._wake_fd:
                    drain_fifo(fd)
                elif fd == self._control.fileno() and self._is_told_to_stop():
                    return

    def _deliver(self) -> bool:
        busy = False
        for link in self._links_in:
            for _ in range(BATCH):
                message = link.receive()
                if message is None:
                    break
                busy = True
                self.last_messages.append(type(message).__name__)
                self._send(self._actor.handle(message, time.perf_counter_ns()))
        return busy

    def _send(self, sends: Iterable[Send]) -> None:
        for to, message in sends:
            self._links_out[to].send(message)

    def _sleep(self, poller: select.poll, timeout_ms: int) -> list[tuple[int, int]]:
        """Spin briefly, then sleep until a writer, a device or the launcher wakes us."""
        until = time.perf_counter_ns() + SPIN_NS
        while time.perf_counter_ns() < until:
            if not all(link.is_empty for link in self._links_in):
                return []
        for link in self._links_in:
            link.set_sleeping(True)
        try:
            if not all(link.is_empty for link in self._links_in):
                return []
            return poller.poll(timeout_ms)
        finally:
            for link in self._links_in:
                link.set_sleeping(False)

    def _is_told_to_stop(self) -> bool:
        message = self._control.receive(0)
        if isinstance(message, Stop):
            self._send(self._actor.stop(drain=message.drain))
            self._control.send(Stopped())
            return True
        return False


def drain_fifo(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)


def _die_with(control_fd: int, launcher_id: int) -> None:
    """End this process as soon as the launcher's end of the control socket is gone, whatever the actor is doing.

    A process that the launcher's program forked holds a copy of that end, so the launcher itself is watched too.
    """
    poller = select.poll()
    with contextlib.suppress(OSError, AttributeError):  # gone already, which the line below sees; or no pidfds here
        poller.register(os.pidfd_open(launcher_id), select.POLLIN)
    if os.getppid() != launcher_id:
        os._exit(0)
    poller.register(control_fd, 0)  # only a hang-up is reported
    poller.poll()
    os._exit(0)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tidemill.runtime.host")
    parser.add_argument("--actor", type=ActorName, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--launcher-id", type=int, required=True)
    parser.add_argument("--run-directory", type=Path, required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--selects", action="store_true")
    parser.add_argument("--draft-planes", action="store_true")
    parser.add_argument("--consumes", action="store_true")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides what Ctrl-C means
    threading.Thread(target=_die_with, args=(options.control_fd, options.launcher_id), daemon=True).start()
    control = ControlSocket(socket.socket(fileno=options.control_fd))
    host = ActorHost(options.actor, control, RunDirectory.find(options.run_directory))
    try:
        prepare_actor(
            options.actor,
            options.models,
            options.threads,
            selects=options.selects,
            draft_planes=options.draft_planes,
            consumes=options.consumes,
        )
        control.send(Hello(os.getpid()))
        match control.receive(None):
            case Start() as start:
                host.build(start)
                host.run()
            case Stop():
                control.send(Stopped())
    except PeerGoneError:
        return 0  # the launcher is gone, and so is everything that was asked for
    except Exception as error:  # noqa: BLE001  # whatever it is, the launcher has to hear of it
        control.send(Failed(f"{type(error).__name__}: {error}", traceback.format_exc(), tuple(host.last_messages)))
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:]))  # no interpreter shutdown: daemon threads may be inside a read
