"""Ctrl-C while selections are recorded: the trace holds whole positions, whenever it comes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.fakes.layouts import write_blocky_model
from tests.fakes.lossy_models import CHOICES, HALF_OF
from tidemill.runtime.cli.progress import GenerationProgress
from tidemill.runtime.cli.trace import interrupts_wait, record_events
from tidemill.runtime.events import ChannelsTraced, Gathers, TokenGenerated
from tidemill.runtime.selection_recorder import INPUT_OF, SelectionRecorder, trace_header
from tidemill.storage.manifest import Manifest
from tidemill.storage.trace.trace_reader import TraceReader
from tidemill.storage.trace.trace_writer import TraceWriter

TOKEN = TokenGenerated(1, 1, 1, 0, 0, 0, 0, Gathers(0, 0, 0), 0)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Pressed(ChannelsTraced):
    """Ctrl-C is pressed when its channels are written."""

    @property  # type: ignore[override]
    def channels(self) -> npt.NDArray[np.uint32]:
        press_ctrl_c()
        return np.arange(2, dtype=np.uint32)

    @channels.setter
    def channels(self, channels: object) -> None:
        pass


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_blocky_model(tmp_path_factory.mktemp("models") / "m", CHOICES["neurons"])


@pytest.fixture(autouse=True)
def python_hears_ctrl_c() -> Iterator[None]:
    """A test run in a shell's background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def rows_of(manifest: Manifest, position: int, row: type[ChannelsTraced] = ChannelsTraced) -> Iterator[ChannelsTraced]:
    for layer in range(manifest.decoder.layer_count):
        made = row if layer == 1 else ChannelsTraced
        yield made(position, manifest.get_table("mlp", layer), layer, np.arange(3, dtype=np.uint32))


def events(manifest: Manifest, pressed_in: str) -> Iterator[object]:
    """Three positions; Ctrl-C is pressed in the second, while the engine computes it or while it is written."""
    yield from (*rows_of(manifest, 0), TOKEN)
    if pressed_in == "writing":
        yield from (*rows_of(manifest, 1, Pressed), TOKEN)
    else:
        yield next(rows_of(manifest, 1))
        press_ctrl_c()
    yield from (*rows_of(manifest, 2), TOKEN)


@pytest.mark.parametrize(("pressed_in", "kept"), [("computing", 1), ("writing", 2)])
def test_whole_positions_are_kept(manifest: Manifest, tmp_path: Path, pressed_in: str, kept: int) -> None:
    header = trace_header(manifest, "m", HALF_OF["neurons"], 0)
    with TraceWriter(tmp_path / "a.arrow", header) as trace:
        recorder = SelectionRecorder(trace, manifest)
        assert record_events(events(manifest, pressed_in), recorder, GenerationProgress(quiet=True, verbose=False))
    assert recorder.positions == kept
    layers = range(manifest.decoder.layer_count)
    with TraceReader(tmp_path / "a.arrow") as reader:
        assert [row[:3] for row in reader] == [(p, layer, INPUT_OF["mlp"]) for p in range(kept) for layer in layers]


def test_an_interrupt_waits_for_the_end_of_the_block_and_the_next_one_does_not() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        press_ctrl_c()
        done.append("still here")
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c()
        done.append("never")
    assert done == ["still here"]


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_wait():
        press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
