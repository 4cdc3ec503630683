"""`tidemill trace`: a run whose selections are recorded."""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cli.flags import Opening, SamplingFlags
from tidemill.runtime.cli.opening import open_model, start_generation
from tidemill.runtime.cli.progress import GenerationProgress, stderr_console
from tidemill.runtime.cli.summary_view import show_summary
from tidemill.runtime.generation import Generation
from tidemill.runtime.selection_recorder import SelectionRecorder, trace_header
from tidemill.runtime.sizes import format_size
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.errors import DeviceError
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.trace.trace_writer import TraceWriter


@dataclass(frozen=True, slots=True)
class TraceSettings:
    prompt: str
    output: Path
    as_json: bool
    verbose: bool


def trace_run(opening: Opening, sampling: SamplingFlags, settings: TraceSettings) -> None:
    """Ctrl-C ends the run with exit status 130. What was decoded up to there is kept as whole positions, where there is
    any; either way it is said."""
    selection = opening.selection
    if selection is None:
        raise ValueError("a trace records what a lossy run computes with: choose it with --select and --sparsity")
    if settings.output.exists():
        raise DeviceError(f"{settings.output} exists already; remove it, or write the trace elsewhere")
    try:
        interrupted = _trace(opening, selection, sampling, settings)
    except KeyboardInterrupt:
        stderr_console().print(_kept(settings.output), soft_wrap=True, markup=False)
        raise
    if interrupted:
        raise KeyboardInterrupt


def _kept(output: Path) -> str:
    if output.exists():
        return f"interrupted: {output} is whole"
    return f"interrupted before a token was decoded: {output} was not written"


def _trace(opening: Opening, selection: SelectionSpec, sampling: SamplingFlags, settings: TraceSettings) -> bool:
    """True when Ctrl-C ended it early and the trace was written."""
    directory = resolve_model(opening.model)
    manifest = load_manifest(directory)
    tokenizer = TextTokenizer.open(directory, manifest.decoder.bos_token_id)
    prompt_ids = tokenizer.encode(settings.prompt, add_special_tokens=True)
    context = opening.context or min(manifest.decoder.max_context, len(prompt_ids) + sampling.max_tokens)
    with open_model(opening, directory, context=context, quiet=settings.as_json, tokenizer=tokenizer) as llm:
        header = trace_header(manifest, llm.name, selection, len(prompt_ids))
        generation = start_generation(llm, prompt_ids, sampling)
        with TraceWriter(settings.output, header) as trace:
            recorder = SelectionRecorder(trace, manifest)
            interrupted = record_events(
                generation.events(), recorder, GenerationProgress(quiet=settings.as_json, verbose=settings.verbose)
            )
            if not recorder.positions:
                if interrupted:
                    raise KeyboardInterrupt
                raise ValueError(
                    "nothing was decoded, so there is nothing to record: the first token comes from the prompt, which "
                    "is computed with everything; give -n 2 or more, or another prompt"
                )
        _show(generation, recorder.positions, selection, settings)
    return interrupted


def record_events(events: Iterator[object], recorder: SelectionRecorder, progress: GenerationProgress) -> bool:
    """True when Ctrl-C came before the end. The recorder sees each event whole or not at all."""
    try:
        with progress:
            for event in events:
                with interrupts_wait():
                    recorder.see(event)
                progress.show(event)  # type: ignore[arg-type]  # text is not shown
    except KeyboardInterrupt:
        return True
    finally:
        events.close()  # type: ignore[attr-defined]  # it is a generator; closing cancels the step under way
    return False


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """A Ctrl-C inside comes at the end of the block, unless that fails; where it is ignored it stays so. For the main
    thread."""
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt


def _show(generation: Generation, positions: int, selection: SelectionSpec, settings: TraceSettings) -> None:
    size = settings.output.stat().st_size
    summary = generation.summary()
    if settings.as_json:
        told = {"trace": str(settings.output), "trace_positions": positions, "trace_bytes": size}
        sys.stdout.write(json.dumps({**told, **summary.to_json()}) + "\n")
        return
    console = stderr_console()
    show_summary(console, summary, verbose=settings.verbose)
    console.print(f"{settings.output}: {positions} positions of {selection.name}, {format_size(size)}", soft_wrap=True)
