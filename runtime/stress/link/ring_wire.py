"""Rings between this process and another one of its own: what the launcher `local` joins actors with."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from tidemill.actors.messages import ActorName, Message
from tidemill.runtime.environment import child_environment
from tidemill.runtime.links.link import LinkError
from tidemill.runtime.links.ring_link import RingLink
from tidemill.runtime.region import Region
from tidemill.runtime.ring import HEADER_BYTES
from tidemill.runtime.run_directory import RunDirectory
from tidemill.runtime.stress.frames import FrameSocket
from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.link.ends import END, RingReader, make_droppable, make_out, sequence_of
from tidemill.runtime.stress.link.job import BACK, DROPPING, OUT, LinkJob
from tidemill.runtime.stress.link.peer import Begin, Drained, FromPeer, PeerReady, Phase, StopDropping
from tidemill.runtime.stress.link.run import NS, WARM_UP, SlowRun, send_for, send_timed

PEER_DEADLINE_S = 60.0


class RingWire:
    """Implements Wire. Ends the other process and removes everything in `close`."""

    def __init__(self, job: LinkJob, is_stopped: Callable[[], bool]) -> None:
        self._job = job
        self._is_stopped = is_stopped
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(BACK.union)
        self._owned = ExitStack()
        try:
            self._open()
        except BaseException:
            self._owned.close()
            raise

    def close(self) -> None:
        self._owned.close()

    def round_trips(self, what: str, seconds: float) -> LatencyHistogram:
        self._begin(Phase("echo" if what == "ours" else "pipe", self._job.wait, self._job.payload_bytes))
        trip = self._ring_trip if what == "ours" else self._pipe_trip
        histogram = LatencyHistogram()
        for sequence in range(WARM_UP):
            trip(sequence)
        until, latencies, sequence = time.perf_counter_ns() + round(seconds * NS), [0], WARM_UP
        latencies.clear()
        while (before := time.perf_counter_ns()) < until and not self._is_stopped():
            trip(sequence)
            latencies.append(time.perf_counter_ns() - before)
            sequence += 1
        histogram.add(latencies)
        if what == "ours":
            self._out.send(END)
        else:
            self._pipe.send_bytes(self._encoder.encode(END))
        self._end()
        return histogram

    def flood(self, seconds: float, on_count: Callable[[int], None]) -> tuple[int, int]:
        size = self._job.payload_bytes
        self._begin(Phase("drain", self._job.wait, size))
        begun = time.perf_counter_ns()
        sent, _ = send_for(
            lambda sequence: self._out.send(make_out(sequence, size)), seconds, self._is_stopped, on_count
        )
        self._out.send(END)
        drained = self._end()
        if (drained.received, drained.disordered) != (sent, 0):
            raise LinkError(f"link {OUT.name} lost or disordered messages: {sent} were sent, {drained} came")
        return sent, time.perf_counter_ns() - begun

    def slow(self, seconds: float) -> SlowRun:
        size = self._job.payload_bytes
        self._begin(Phase("drain", self._job.wait, size, self._job.pause_us * 1000))
        begun = time.perf_counter_ns()
        sent, waited_ns, latencies, error = send_timed(
            lambda sequence: self._out.send(make_out(sequence, size)), seconds, self._is_stopped
        )
        elapsed_ns = time.perf_counter_ns() - begun
        self._out.send(END)
        drained = self._end()
        return SlowRun(sent, sent - drained.received + drained.disordered, error, latencies, waited_ns, elapsed_ns)

    def dropping(self, seconds: float) -> tuple[int, int, int]:
        size = self._job.payload_bytes
        self._begin(Phase("drop", self._job.wait, size, self._job.pause_us * 1000))
        before = self._dropping.dropped
        sent, refused = send_for(
            lambda sequence: self._dropping.send(make_droppable(sequence, size)),
            seconds,
            self._is_stopped,
            lambda _: None,
        )
        self._control.send(StopDropping())
        drained = self._end()
        dropped = self._dropping.dropped - before
        assert dropped == refused, "a link counts what it drops"
        return sent, dropped, sent - dropped - drained.received + drained.disordered

    def stuck(self) -> tuple[float, str]:
        self._begin(Phase("stuck", self._job.wait, self._job.payload_bytes))
        begun = time.perf_counter_ns()
        size, sequence = self._job.payload_bytes, 0
        while True:
            try:
                before = time.perf_counter_ns()
                self._out.send(make_out(sequence, size))
                sequence += 1
            except LinkError as error:
                return (time.perf_counter_ns() - before) / NS, str(error)
            if before - begun > PEER_DEADLINE_S * NS:
                raise LinkError(f"link {OUT.name} took {sequence} messages that nobody reads")

    def _ring_trip(self, sequence: int) -> None:
        self._out.send(make_out(sequence, self._job.payload_bytes))
        if sequence_of(self._back.receive()) != sequence:
            raise LinkError(f"link {BACK.name}: the answer to message {sequence} is another one's")

    def _pipe_trip(self, sequence: int) -> None:
        self._pipe.send_bytes(self._encoder.encode(make_out(sequence, self._job.payload_bytes)))
        self._decoder.decode(self._pipe.recv_bytes())

    def _begin(self, phase: Phase) -> None:
        self._control.send(phase)

    def _end(self) -> Drained:
        message = self._control.receive(PEER_DEADLINE_S)
        if not isinstance(message, Drained):
            raise LinkError(f"the other process of the links did not answer within {PEER_DEADLINE_S:.0f} s")
        return message

    def _open(self) -> None:
        directory = RunDirectory.create()
        self._owned.callback(directory.remove)
        for name in (ActorName.ARENA, ActorName.READER):
            directory.make_fifo(name)
        regions = [
            Region.create(spec.name, HEADER_BYTES + spec.capacity_bytes, directory.path)
            for spec in (OUT, BACK, DROPPING)
        ]
        for region in regions:
            self._owned.callback(region.close)
        here, there = (directory.open_fifo(name) for name in (ActorName.ARENA, ActorName.READER))
        for fd in (here, there):
            self._owned.callback(os.close, fd)
        self._out = RingLink(OUT, regions[0].view, there)
        self._dropping = RingLink(DROPPING, regions[2].view, there)
        self._back = RingReader(RingLink(BACK, regions[1].view, here), here, self._job.wait, self._is_lost)
        self._owned.callback(self._forget)
        self._control = self._spawn(directory)
        self._control.send(Begin(*(region.ref for region in regions)))
        if not isinstance(self._control.receive(PEER_DEADLINE_S), PeerReady):
            raise LinkError(f"the other process of the links was not ready within {PEER_DEADLINE_S:.0f} s")

    def _forget(self) -> None:
        """A region is given back once nobody looks at it."""
        del self._out, self._dropping, self._back

    def _is_lost(self) -> bool:
        return self._process.poll() is not None

    def _spawn(self, directory: RunDirectory) -> FrameSocket[FromPeer]:
        self._pipe, far_pipe = multiprocessing.Pipe()
        self._owned.callback(self._pipe.close)
        ours, theirs = socket.socketpair()
        arguments = ["--control-fd", theirs.fileno(), "--pipe-fd", far_pipe.fileno(), "--run-directory", directory.path]
        with theirs, far_pipe:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tidemill.runtime.stress.link.peer", *map(str, arguments)],
                pass_fds=[theirs.fileno(), far_pipe.fileno()],
                stdin=subprocess.DEVNULL,
                env=child_environment(1),
            )
        self._owned.callback(self._end_process)
        control: FrameSocket[FromPeer] = FrameSocket(ours, FromPeer)  # type: ignore[arg-type]
        self._owned.callback(control.close)
        return control

    def _end_process(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
