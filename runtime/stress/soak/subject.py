"""The process that decodes while it is harmed: opens cells as it is told, tells every token and how it ended.

`python -m tidemill.runtime.stress.soak.subject` is what the campaign spawns.
"""

import argparse
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tidemill.actors.messages import CancelStep
from tidemill.runtime.cell import Cell, open_cell
from tidemill.runtime.draft_options import DraftOptions
from tidemill.runtime.engine import Engine, StepFailedError
from tidemill.runtime.events import CellRestarted, TokenGenerated
from tidemill.runtime.expected_errors import is_expected
from tidemill.runtime.launchers.launcher import ActorDiedError
from tidemill.runtime.options import EngineOptions, check_options, default_threads
from tidemill.runtime.restarts import MOST_RESTARTS
from tidemill.runtime.stress.frames import FrameSocket, PeerGoneError
from tidemill.runtime.stress.soak.messages import (
    Broke,
    CellChoice,
    CellClosed,
    CellOpened,
    CloseCell,
    Decode,
    Ended,
    Flood,
    Flooded,
    Restarted,
    Token,
    ToSubject,
)
from tidemill.storage.devices.emulated.spec import parse_device

NO_STEP = 0  # steps count from 1: cancelling this one means nothing
IO_DEPTH = 4


class Subject:
    """Keeps a cell open from one request to the next. `run` returns when the campaign is gone."""

    def __init__(self, campaign: FrameSocket[ToSubject]) -> None:
        self._campaign = campaign
        self._choice: CellChoice | None = None
        self._engine: Engine | None = None
        self._cell: Cell | None = None

    def run(self) -> None:
        try:
            while True:
                match self._campaign.receive(None):
                    case Decode() as request:
                        self._try(request)
                    case CloseCell():
                        self._close()
                        self._campaign.send(CellClosed())
                    case Flood() as flood:
                        self._flood(flood)
        except (PeerGoneError, BrokenPipeError):
            pass
        finally:
            self._close()

    def _try(self, request: Decode) -> None:
        try:
            self._decode(request)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the campaign judges it
            if not isinstance(error, StepFailedError):
                self._close()
            kinds = tuple(kind.__name__ for kind in type(error).__mro__)
            text = traceback.format_exc()
            self._campaign.send(Broke(kinds, str(error), text, is_expected(error), self._process_ids()))

    def _decode(self, request: Decode) -> None:
        engine = self._open(request.cell)
        assert self._cell is not None
        ledger = self._cell.ledger
        arena_bytes = ledger.arena.arena_bytes
        self._campaign.send(CellOpened(self._process_ids(), arena_bytes, ledger.total_bytes - arena_bytes))
        events = engine.generate(request.prompt, max_tokens=request.tokens, sampling=request.sampling, stop_ids=())
        for event in events:
            if isinstance(event, TokenGenerated):
                self._campaign.send(Token(event.token_id, event.logits_checksum))
            elif isinstance(event, CellRestarted):
                self._campaign.send(Restarted(event.why))
            if self._campaign.is_readable():
                self._hear()
        report = engine.report()
        faults = 0 if report.emulation is None else report.emulation.faults
        self._campaign.send(
            Ended(
                peak_bytes=report.peak_bytes,
                ceiling_bytes=report.ceiling_bytes,
                process_ids=self._process_ids(),
                retries=report.flash_retries,
                rereads=report.flash_rereads,
                faults=faults,
            )
        )

    def _hear(self) -> None:
        """Between two tokens nothing but a flood is ordered."""
        match self._campaign.receive(0):
            case Flood() as flood:
                self._flood(flood)
            case None:
                pass
            case other:
                raise TypeError(f"{type(other).__name__} while a request is under way")

    def _flood(self, flood: Flood) -> None:
        assert self._cell is not None, "it is ordered of a request under way"
        launcher = self._cell.launcher
        compute = launcher.process_ids()["compute"]
        begun = time.monotonic()
        os.kill(compute, signal.SIGSTOP)
        going_on = threading.Timer(flood.stopped_s, os.kill, (compute, signal.SIGCONT))
        going_on.start()
        try:
            for _ in range(flood.messages):
                launcher.send(CancelStep(NO_STEP))
        finally:
            going_on.join()
        self._campaign.send(Flooded(flood.messages, time.monotonic() - begun))

    def _open(self, choice: CellChoice) -> Engine:
        if self._engine is None or choice != self._choice:
            self._close()
            options = engine_options(choice)
            self._engine = Engine(options, lambda: self._open_cell(options))
            self._choice = choice
        return self._engine

    def _open_cell(self, options: EngineOptions) -> Cell:
        self._cell = open_cell(options, lambda _: None)
        return self._cell

    def _close(self) -> None:
        engine, self._engine, self._cell, self._choice = self._engine, None, None, None
        if engine is not None:
            with suppress(ActorDiedError):
                engine.close()

    def _process_ids(self) -> dict[str, int]:
        return {} if self._cell is None else dict(self._cell.launcher.process_ids())


def engine_options(choice: CellChoice) -> EngineOptions:
    """Raises what `check_options` raises."""
    options = EngineOptions(
        model=choice.directory,
        ram_bytes=choice.ram_bytes,
        arena_bytes=choice.arena_bytes,
        context=choice.context,
        threads=default_threads(),
        load_mode=choice.load_mode,
        launcher="local",
        io_depth=IO_DEPTH,
        device=parse_device(choice.device),
        restarts=MOST_RESTARTS if choice.restarts else 0,
        draft=DraftOptions(kind=choice.draft),
    )
    return check_options(options, explicit_context=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tidemill.runtime.stress.soak.subject")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--memory-group", type=Path, help="A memory cgroup to enter first.")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the campaign decides what Ctrl-C means
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # where it hangs, if it does
    if options.memory_group is not None:
        (options.memory_group / "cgroup.procs").write_text(str(os.getpid()))
    campaign: FrameSocket[ToSubject] = FrameSocket(socket.socket(fileno=options.control_fd), ToSubject)  # type: ignore[arg-type]
    Subject(campaign).run()
    campaign.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
