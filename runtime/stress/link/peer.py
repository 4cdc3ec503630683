"""The other process of a link job: answers, drains, or reads slowly, as it is told. `python -m …link.peer`."""

import argparse
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import msgspec

from tidemill.actors.messages import ActorName, Message
from tidemill.runtime.links.ring_link import RingLink
from tidemill.runtime.region import Region, RegionRef
from tidemill.runtime.run_directory import RunDirectory
from tidemill.runtime.stress.frames import FrameSocket, PeerGoneError
from tidemill.runtime.stress.link.ends import AbandonedError, RingReader, make_back, now_and_then, pause, sequence_of
from tidemill.runtime.stress.link.job import BACK, DROPPING, OUT, WaitKind


class Phase(msgspec.Struct, frozen=True, tag=1):
    """echo: answers each message. drain: takes them, `pause_ns` for each. drop: the same of the link that drops. pipe:
    answers what comes by the pipe. Each until an empty message comes; of the link that drops, until told of the last
    sequence by that of another. `stuck`: takes nothing until the phase after it."""

    what: Literal["echo", "drain", "drop", "pipe", "stuck"]
    wait: WaitKind
    payload_bytes: int
    pause_ns: int = 0


class Drained(msgspec.Struct, frozen=True, tag=2):
    """The end of a phase: messages that came, and how many of them out of order."""

    received: int
    disordered: int


class Begin(msgspec.Struct, frozen=True, tag=3):
    """What the peer needs: where the rings are."""

    out: RegionRef
    back: RegionRef
    dropping: RegionRef


class PeerReady(msgspec.Struct, frozen=True, tag=4):
    pass


class StopDropping(msgspec.Struct, frozen=True, tag=5):
    """Nothing more will come by the link that drops: take what lies in it."""


ToPeer = Begin | Phase | StopDropping
FromPeer = PeerReady | Drained


class Peer:
    def __init__(self, control: FrameSocket[ToPeer], directory: RunDirectory, pipe: Connection) -> None:
        begin = control.receive(None)
        assert isinstance(begin, Begin), "the rings are the first that a peer is told of"
        self._control = control
        self._pipe = pipe
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(OUT.union)
        self._encoder = msgspec.msgpack.Encoder()
        self._wake_fd = directory.open_fifo(ActorName.READER)
        self._out = RingLink(OUT, Region.attach(begin.out).view, self._wake_fd)
        self._back = RingLink(BACK, Region.attach(begin.back).view, directory.open_fifo(ActorName.ARENA))
        self._dropping = RingLink(DROPPING, Region.attach(begin.dropping).view, self._wake_fd)

    def run(self) -> None:
        """Until the other end is gone, which is a PeerGoneError or an AbandonedError."""
        self._control.send(PeerReady())
        while True:
            phase = self._control.receive(None)
            match phase:
                case Phase(what="echo"):
                    done = self._echo(phase)
                case Phase(what="pipe"):
                    done = self._answer_pipe(phase)
                case Phase(what="drain"):
                    done = self._drain(phase)
                case Phase(what="drop"):
                    done = self._drain_dropping(phase)
                case Phase(what="stuck"):
                    continue
                case _:
                    raise TypeError(f"a peer has no use for {type(phase).__name__} between phases")
            self._control.send(done)

    def _reader(self, link: RingLink, phase: Phase) -> RingReader:
        return RingReader(link, self._wake_fd, phase.wait, now_and_then(self._control.is_readable))

    def _echo(self, phase: Phase) -> Drained:
        reader, count = self._reader(self._out, phase), 0
        while (sequence := sequence_of(reader.receive())) >= 0:
            self._back.send(make_back(sequence, phase.payload_bytes))
            count += 1
        return Drained(count, 0)

    def _answer_pipe(self, phase: Phase) -> Drained:
        count = 0
        while (sequence := sequence_of(self._decoder.decode(self._pipe.recv_bytes()))) >= 0:
            self._pipe.send_bytes(self._encoder.encode(make_back(sequence, phase.payload_bytes)))
            count += 1
        return Drained(count, 0)

    def _drain(self, phase: Phase) -> Drained:
        reader, count, disordered = self._reader(self._out, phase), 0, 0
        while (sequence := sequence_of(reader.receive())) >= 0:
            disordered += sequence != count
            count += 1
            if phase.pause_ns:
                pause(phase.pause_ns)
        return Drained(count, disordered)

    def _drain_dropping(self, phase: Phase) -> Drained:
        """What was dropped leaves gaps; the order stays."""
        reader = self._reader(self._dropping, phase)
        last, count, disordered = -1, 0, 0
        with contextlib.suppress(AbandonedError):
            while True:
                sequence = sequence_of(reader.receive())
                disordered += sequence <= last
                last, count = sequence, count + 1
                pause(phase.pause_ns)
        if not isinstance(self._control.receive(0), StopDropping):
            raise AbandonedError
        while self._dropping.receive() is not None:
            count += 1
        return Drained(count, disordered)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tidemill.runtime.stress.link.peer")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--pipe-fd", type=int, required=True)
    parser.add_argument("--run-directory", type=Path, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control: FrameSocket[ToPeer] = FrameSocket(socket.socket(fileno=options.control_fd), ToPeer)  # type: ignore[arg-type]
    try:
        Peer(control, RunDirectory.find(options.run_directory), Connection(options.pipe_fd)).run()
    except (PeerGoneError, AbandonedError, EOFError, BrokenPipeError):
        pass  # the job has ended
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)
