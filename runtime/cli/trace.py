"""`tidemill trace`: a run whose selections are recorded."""

import json
import sys
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
    """Ctrl-C ends the run: the whole positions up to there are kept, and the exit status is 130."""
    selection = opening.selection
    if selection is None:
        raise ValueError("a trace records what a lossy run computes with: choose it with --select and --sparsity")
    if settings.output.exists():
        raise DeviceError(f"{settings.output} exists already; remove it, or write the trace elsewhere")
    directory = resolve_model(opening.model)
    manifest = load_manifest(directory)
    prompt_ids = TextTokenizer.open(directory, manifest.decoder.bos_token_id).encode(
        settings.prompt, add_special_tokens=True
    )
    context = opening.context or min(manifest.decoder.max_context, len(prompt_ids) + sampling.max_tokens)
    with open_model(opening, directory, context=context, quiet=settings.as_json) as llm:
        header = trace_header(manifest, llm.name, selection, len(prompt_ids))
        generation = start_generation(llm, prompt_ids, sampling)
        with TraceWriter(settings.output, header) as trace:
            recorder = SelectionRecorder(trace, manifest)
            interrupted = _record(generation, recorder, settings)
            if not recorder.positions:
                raise ValueError(
                    "nothing was decoded, so there is nothing to record: the first token comes from the prompt, which "
                    "is computed with everything; give -n 2 or more, or another prompt"
                )
        _show(generation, recorder.positions, selection, settings)
    if interrupted:
        raise KeyboardInterrupt


def _record(generation: Generation, recorder: SelectionRecorder, settings: TraceSettings) -> bool:
    """True when Ctrl-C came before the end."""
    events = generation.events()
    try:
        with GenerationProgress(quiet=settings.as_json, verbose=settings.verbose) as progress:
            for event in events:
                recorder.see(event)
                progress.show(event)  # type: ignore[arg-type]  # text is not shown
    except KeyboardInterrupt:
        return True
    finally:
        events.close()  # type: ignore[attr-defined]  # it is a generator; closing cancels the step under way
    return False


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
