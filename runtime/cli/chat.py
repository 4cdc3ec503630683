"""`tidemill chat`: a conversation at the terminal."""

import sys

from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cli.flags import Opening, SamplingFlags
from tidemill.runtime.cli.opening import open_model, start_generation
from tidemill.runtime.cli.progress import GenerationProgress, stderr_console
from tidemill.runtime.cli.summary_view import show_summary
from tidemill.runtime.generation import TextGenerated
from tidemill.runtime.llm import LLM

HELP = "/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer."


def chat_loop(opening: Opening, sampling: SamplingFlags, system: str | None, verbose: bool) -> None:
    """Read a line, answer it, until the end of input. Ctrl-C at the prompt leaves too."""
    console = stderr_console()
    beginning = [{"role": "system", "content": system}] if system else []
    messages = list(beginning)
    directory = resolve_model(opening.model)
    if opening.is_sparsity_searched:
        from tidemill.runtime.cli.sparsity_search import settle_sparsity

        opening = settle_sparsity(opening, directory, context=opening.context, prompt_tokens=1)
    with open_model(opening, directory, context=opening.context, quiet=False) as llm:
        llm.chat_prompt(
            [*beginning, {"role": "user", "content": "x"}]
        )  # a missing template is told before the first line
        console.print(f"{llm.name}, context {llm.engine.context}. {HELP}")
        while (line := _read_line()) is not None:
            if line == "/exit":
                break
            if line == "/reset":
                messages = list(beginning)
                console.print("The conversation is forgotten.")
            elif line == "/help":
                console.print(HELP)
            elif line:
                messages.append({"role": "user", "content": line})
                answer = _answer(llm, messages, sampling, verbose)
                if answer is None:
                    messages.pop()
                else:
                    messages.append({"role": "assistant", "content": answer})


def _read_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _answer(llm: LLM, messages: list[dict[str, str]], sampling: SamplingFlags, verbose: bool) -> str | None:
    """Stream an answer; None when there is no room for one. Ctrl-C ends it early, what was said stays."""
    console = stderr_console()
    prompt_ids = llm.chat_prompt(messages)
    if len(prompt_ids) >= llm.engine.context:
        console.print(
            f"The conversation has {len(prompt_ids)} tokens, the context {llm.engine.context}: /reset it, or start "
            "again with a larger -c."
        )
        return None
    generation = start_generation(llm, prompt_ids, sampling)
    events = generation.events()
    try:
        with GenerationProgress(quiet=False, verbose=verbose) as progress:
            for event in events:
                if isinstance(event, TextGenerated):
                    sys.stdout.write(event.text)
                    sys.stdout.flush()
                else:
                    progress.show(event)
    except KeyboardInterrupt:
        console.print("\n(stopped)")
    finally:
        events.close()  # type: ignore[attr-defined]  # it is a generator; closing cancels the step under way
    sys.stdout.write("\n")
    sys.stdout.flush()
    if generation.finish_reason == "context":
        console.print(f"The context of {llm.engine.context} tokens is full: /reset, or start again with a larger -c.")
    if verbose:
        show_summary(console, generation.summary(), verbose=False)
    return generation.text
