"""`tidemill eval`."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.calibration.calibration_file import CalibrationFile
from tidemill.runtime.calibration.record import Card, TextUsed
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cli.flags import Opening
from tidemill.runtime.cli.opening import window_options
from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.cli.selection_flags import SelectionFlags, lossy_warning, parse_selection
from tidemill.runtime.cli.text_file import read_tokens
from tidemill.runtime.cli.window_progress import WindowBar
from tidemill.runtime.engine import Engine
from tidemill.runtime.quality.scores import Quality, ScoreSums
from tidemill.runtime.quality.windows import cut_windows, evaluate_windows

DEFAULT_WINDOW = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalFlags:
    text: Path
    tokens: int | None
    as_json: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """Variant by variant: the exact model, then the selection, if one was asked for."""

    model: str
    text: TextUsed
    window: int
    selection: SelectionSpec | None
    qualities: tuple[Quality, ...]
    card: Card | None
    elapsed_s: float
    ceiling_bytes: int | None
    peak_bytes: int | None

    def to_json(self) -> dict[str, object]:
        exact, *lossy = (asdict(quality) for quality in self.qualities)
        return {
            "model": self.model,
            "text": msgspec.to_builtins(self.text),
            "window": self.window,
            "selection": msgspec.to_builtins(self.selection),
            "lossy": bool(lossy),
            "exact": exact,
            "selected": lossy[0] if lossy else None,
            "card": msgspec.to_builtins(self.card),
            "elapsed_s": self.elapsed_s,
            "ceiling_bytes": self.ceiling_bytes,
            "peak_bytes": self.peak_bytes,
        }


def eval_command(opening: Opening, selection: SelectionFlags, flags: EvalFlags) -> None:
    """Perplexity of a text, and what a selection makes of it. Ctrl-C ends it without figures."""
    directory = resolve_model(opening.model)
    spec = parse_selection(selection)
    text, token_ids = read_tokens(directory, flags.text, flags.tokens)
    options = window_options(
        opening, directory, default_window=DEFAULT_WINDOW, selections=() if spec is None else (spec,)
    )
    windows = cut_windows(token_ids, options.window)
    if not windows:
        raise ValueError(f"{flags.text} gives {len(token_ids)} tokens, at least 2 are needed")
    card = None
    if spec is not None:
        card = CalibrationFile.open(directory).record.card
        stderr_console().print(lossy_warning(spec, card, directory), markup=False)
    begun = time.perf_counter()
    with Engine.open(options, on_event=lambda status: None if flags.as_json else _say(status.text)) as engine:
        sums = ScoreSums(engine.manifest.decoder, 1 + len(options.selections))
        with WindowBar(quiet=False) as bar:
            bar.follow(evaluate_windows(engine, windows, sums, "evaluating"))
        report = engine.report()
    result = EvalResult(
        model=directory.name,
        text=text,
        window=options.window,
        selection=spec,
        qualities=tuple(sums.qualities()),
        card=card,
        elapsed_s=time.perf_counter() - begun,
        ceiling_bytes=options.ram_bytes,
        peak_bytes=report.peak_bytes,
    )
    _print(result, flags.as_json)


def _say(text: str) -> None:
    stderr_console().print(text, markup=False)


def _print(result: EvalResult, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result.to_json()) + "\n")
        return
    console = Console(highlight=False, soft_wrap=True)
    text = result.text
    console.print(
        f"{result.model} on {text.name}: {text.tokens} tokens in windows of {result.window}, "
        f"{text.tokens / result.elapsed_s:.0f} tokens/s",
        markup=False,
    )
    columns = ("", "perplexity", "±", "KL nats", "same token", "weights computed")
    table = Table(*columns, box=None, pad_edge=False)
    names = ["exact", *([result.selection.name] if result.selection else [])]
    for name, quality in zip(names, result.qualities, strict=True):
        table.add_row(
            name,
            f"{quality.perplexity:.3f}",
            "" if quality.perplexity_error is None else f"{quality.perplexity_error:.3f}",
            f"{quality.kl:.4f}",
            f"{quality.agreement:.1%}",
            f"{quality.weights_computed:.1%}",
        )
    console.print(table)
