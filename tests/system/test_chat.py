"""A person at a terminal: a pseudo-terminal, keys sent, the screen read."""

import os
import pty
import select
import signal
import sys
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model

DEADLINE_S = 30.0
START_S = 110.0  # kernels may have to be compiled


class Terminal:
    """`tidemill chat` as the foreground process of its own terminal."""

    def __init__(self, command: list[str]) -> None:
        self.process_id, self._fd = pty.fork()
        if self.process_id == 0:
            os.execv(command[0], command)
        self.screen = ""

    def wait_for(self, text: str, deadline_s: float = DEADLINE_S) -> str:
        """Read until `text` has come; what came up to and with it."""
        while text not in self.screen:
            ready, _, _ = select.select([self._fd], [], [], deadline_s)
            assert ready, f"{text!r} does not come; the screen shows {self.screen!r}"
            self.screen += os.read(self._fd, 4096).decode(errors="replace")
        before, _, self.screen = self.screen.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def finish(self) -> int:
        try:
            while os.read(self._fd, 4096):
                pass
        except OSError:
            pass  # the terminal is closed
        status = os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])
        os.close(self._fd)
        return status


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "chatty")
    (tmp_path / "chatty" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }} w9 {% endfor %}")
    return tmp_path / "chatty"


@pytest.mark.filterwarnings("ignore:.*forkpty.*:DeprecationWarning")
def test_ctrl_c_stops_the_answer_and_not_the_program(chatty: Path) -> None:
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "chat", "-m", str(chatty), "--ram", "none"]
    terminal = Terminal([*command, "-n", "400", "-c", "500"])
    try:
        terminal.wait_for("/reset forgets", START_S)
        terminal.wait_for("> ")
        terminal.type("w1 w2\r")
        terminal.wait_for(" w")  # the answer has begun
        terminal.wait_for(" w")
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        terminal.wait_for("> ")
        terminal.type("/reset\r")
        terminal.wait_for("forgotten")
        terminal.wait_for("> ")
        terminal.type("w7\r")
        terminal.wait_for(" w")
        terminal.type("\x03")
        terminal.wait_for("> ")
        terminal.type("/exit\r")
    except BaseException:
        os.kill(terminal.process_id, signal.SIGKILL)
        terminal.finish()
        raise
    assert terminal.finish() == 0
