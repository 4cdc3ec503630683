"""The subject as the campaign holds it: spawned, asked, waited for with a deadline, and ended with all that is its."""

import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tidemill.runtime.launchers.exit_words import describe_exit
from tidemill.runtime.stress.frames import FrameSocket, PeerGoneError
from tidemill.runtime.stress.soak.grounds import Grounds
from tidemill.runtime.stress.soak.messages import FromSubject, ToSubject
from tidemill.runtime.stress.soak.observation import marked_processes, send_signal, show_stacks
from tidemill.runtime.stress.soak.patience import Patience

LEAVE_S = 20.0  # from the end of the socket to the end of the process: a cell is closed in between
DUMP_S = 0.5
TAIL_BYTES = 4000


class SubjectGoneError(Exception):
    """The subject's process ended. Says how, and what it wrote last."""


class HungError(Exception):
    """Nothing came within the deadline. The text has where every process was."""


class SubjectProcess:
    def __init__(self, grounds: Grounds, *, name: str = "subject", memory_group: Path | None = None) -> None:
        """`memory_group`: a memory cgroup that it and its actors are in."""
        self._grounds = grounds
        self._stderr_path = grounds.output / name
        ours, theirs = socket.socketpair()
        arguments = ["--control-fd", str(theirs.fileno())]
        if memory_group is not None:
            arguments += ["--memory-group", str(memory_group)]
        with theirs, self._stderr_path.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tidemill.runtime.stress.soak.subject", *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=grounds.environment(),
                process_group=0,  # Ctrl-C at a terminal goes to the campaign alone
            )
        self._control: FrameSocket[FromSubject] = FrameSocket(ours, FromSubject)  # type: ignore[arg-type]  # a union

    @property
    def process_id(self) -> int:
        return self._process.pid

    def send(self, message: ToSubject) -> None:
        """Raises SubjectGoneError."""
        try:
            self._control.send(message)
        except OSError:
            raise self._gone() from None

    def receive(self, patience: Patience) -> FromSubject:
        """Raises SubjectGoneError; HungError when patience is over."""
        while True:
            try:
                message = self._control.receive(max(0.001, patience.wait_s))
            except PeerGoneError:
                raise self._gone() from None
            if message is not None:
                return message
            if patience.is_over:
                raise HungError(f"nothing came for {patience.seconds:.0f} s\n{self._show_stacks()}")

    def close(self) -> None:
        """Politely, which closes its cell; by force where that takes too long. Closing twice is fine."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_S)
        self.kill()

    def kill(self) -> None:
        """It alone, at once."""
        self._control.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _gone(self) -> SubjectGoneError:
        try:
            status: int | None = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            status = None
        return SubjectGoneError(f"the engine's process {describe_exit(status, None)}\n{self._tail()}".strip())

    def _show_stacks(self) -> str:
        """Of Python too, where it still answers."""
        stacks = show_stacks(marked_processes(self._grounds.mark))
        if send_signal(self.process_id, signal.SIGUSR1):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(DUMP_S)
        return f"{stacks}\n{self._tail()}".strip()

    def _tail(self) -> str:
        return self._stderr_path.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
