"""`tidemill run`."""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cli.flags import Opening, SamplingFlags
from tidemill.runtime.cli.opening import open_model, start_generation
from tidemill.runtime.cli.progress import GenerationProgress, stderr_console
from tidemill.runtime.cli.summary_view import show_summary
from tidemill.runtime.cli.token_csv import write_token_csv
from tidemill.runtime.generation import Generation, TextGenerated
from tidemill.runtime.start_times import seconds_since_process_start
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.manifest_file import load_manifest


@dataclass(frozen=True, slots=True)
class RunSettings:
    prompt: str
    as_json: bool
    csv: Path | None
    verbose: bool


def run_prompt(opening: Opening, sampling: SamplingFlags, settings: RunSettings) -> None:
    """One completion. Ctrl-C ends it: what was generated is summed up, and the exit status is 130."""
    python_s = seconds_since_process_start()
    begun = time.perf_counter()
    directory = resolve_model(opening.model)
    decoder = load_manifest(directory).decoder
    tokenizer = TextTokenizer.open(directory, decoder.bos_token_id)
    prompt_ids = tokenizer.encode(settings.prompt, add_special_tokens=True)
    if opening.context is None and len(prompt_ids) >= decoder.max_context:
        raise ValueError(
            f"the prompt has {len(prompt_ids)} tokens, this model's context is {decoder.max_context}; shorten it"
        )
    context = opening.context or min(decoder.max_context, len(prompt_ids) + sampling.max_tokens)
    tokenizer_s = time.perf_counter() - begun
    if opening.is_sparsity_searched:
        from tidemill.runtime.cli.sparsity_search import settle_sparsity

        opening = settle_sparsity(opening, directory, context=context, prompt_tokens=len(prompt_ids))
    with open_model(opening, directory, context=context, quiet=settings.as_json, tokenizer=tokenizer) as llm:
        generation = start_generation(llm, prompt_ids, sampling)
        interrupted = _follow(generation, settings)
        summary = generation.summary()
        before = {} if python_s is None else {"python": python_s}
        summary = replace(summary, start_s={**before, "tokenizer": tokenizer_s, **summary.start_s})
    if settings.as_json:
        sys.stdout.write(json.dumps(summary.to_json()) + "\n")
    else:
        show_summary(stderr_console(), summary, verbose=settings.verbose)
    if settings.csv is not None:
        write_token_csv(settings.csv, generation.tokens, summary, opening, sampling)
    if interrupted:
        raise KeyboardInterrupt


def _follow(generation: Generation, settings: RunSettings) -> bool:
    """Show events until the end; True when Ctrl-C came first."""
    events = generation.events()
    try:
        with GenerationProgress(quiet=settings.as_json, verbose=settings.verbose) as progress:
            for event in events:
                if not isinstance(event, TextGenerated):
                    progress.show(event)
                elif not settings.as_json:
                    sys.stdout.write(event.text)
                    sys.stdout.flush()
    except KeyboardInterrupt:
        return True
    finally:
        events.close()  # type: ignore[attr-defined]  # it is a generator; closing cancels the step under way
        if not settings.as_json:
            sys.stdout.write("\n")
            sys.stdout.flush()
    return False
