"""`tidemill calibrate`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tidemill.runtime.calibration.calibrate import CalibrationRequest, Calibrator
from tidemill.runtime.calibration.calibration_file import CalibrationError, CalibrationFile, model_identity
from tidemill.runtime.calibration.record import CALIBRATION_FILE, CalibrationRecord
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cli.flags import Opening
from tidemill.runtime.cli.opening import window_options
from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.cli.text_file import read_tokens
from tidemill.runtime.cli.window_progress import WindowBar
from tidemill.storage.atomic_file import write_atomically
from tidemill.storage.manifest_file import load_manifest

DEFAULT_WINDOW = 512
SEED = 0  # of the sample that predictors are tried on: the same text gives the same file


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateFlags:
    text: Path
    tokens: int
    rank: int
    card_tokens: int
    as_json: bool


def calibrate_command(opening: Opening, flags: CalibrateFlags) -> None:
    """Record, train, measure, and keep it beside the model. Ctrl-C keeps what was there before."""
    directory = resolve_model(opening.model)
    layout = load_manifest(directory).layout
    if layout != "dense":
        raise ValueError(
            f"{directory} is in layout {layout}; calibrate a dense conversion of the same source, then: "
            f"tidemill calibrate -m {directory} --from DENSE"
        )
    text, token_ids = read_tokens(directory, flags.text, flags.tokens)
    request = CalibrationRequest(
        options=window_options(
            opening._replace(launcher="in-process"), directory, default_window=DEFAULT_WINDOW, selections=()
        ),
        text=text,
        token_ids=token_ids,
        rank=flags.rank,
        card_tokens=flags.card_tokens,
        seed=SEED,
    )
    calibrator = Calibrator(request)
    with WindowBar(quiet=False) as bar:
        bar.follow(calibrator.run())
    assert calibrator.record is not None, "a run that ends has saved"
    if flags.as_json:
        sys.stdout.write(msgspec.json.encode(calibrator.record).decode() + "\n")
    else:
        _print(calibrator.record)
    stderr_console().print(f"saved in {directory / CALIBRATION_FILE}", markup=False)


def copy_calibration(source: Path, model: str) -> None:
    """For a model that is laid out differently. Raises CalibrationError for one of another source."""
    directory, other = resolve_model(model), resolve_model(source)
    record = CalibrationFile.open(other).record
    expected = model_identity(load_manifest(directory))
    if record.model != expected:
        raise CalibrationError(
            f"{other} was not converted from the same source, with the same order of neurons, as {directory}: it is "
            f"model {record.model}, expected {expected}; calibrate a dense conversion of that source"
        )
    write_atomically(directory / CALIBRATION_FILE, (other / CALIBRATION_FILE).read_bytes())
    stderr_console().print(f"saved in {directory / CALIBRATION_FILE}", markup=False)


def _print(record: CalibrationRecord) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if record.predictors:
        count = len(record.predictors)
        recall, precision, largest = (
            sum(getattr(quality, name) for quality in record.predictors) / count
            for name in ("recall", "precision", "recall_of_largest")
        )
        console.print(
            f"neuron predictors of rank {record.rank}, half of the neurons chosen: recall {recall:.0%}, precision "
            f"{precision:.0%}, {largest:.0%} of the largest tenth"
        )
    if record.card is None:
        return
    console.print(f"on {record.card.text}; exact perplexity {record.card.exact_perplexity:.3f}", markup=False)
    table = Table("", "perplexity", "KL nats", "same token", "weights computed", box=None, pad_edge=False)
    for entry in record.card.entries:
        table.add_row(
            entry.selection,
            f"{entry.perplexity:.3f}",
            f"{entry.kl:.4f}",
            f"{entry.agreement:.1%}",
            f"{entry.weights_computed:.1%}",
        )
    console.print(table)
