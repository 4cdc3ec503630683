"""Opens a model from flags. The one place where the command line meets the Python API."""

from pathlib import Path
from typing import Literal, cast

from tidemill.runtime.cli.flags import Opening, SamplingFlags
from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.generation import Generation
from tidemill.runtime.llm import LLM
from tidemill.runtime.options import LauncherName
from tidemill.storage.devices.device import LoadMode


def open_model(opening: Opening, directory: Path, *, context: int | None, quiet: bool) -> LLM:
    console = stderr_console()
    return LLM.open(
        directory,
        ram=opening.ram_or_none,
        context=context,
        threads=opening.threads,
        load_mode=cast(LoadMode | Literal["auto"], opening.load_mode),
        launcher=cast(LauncherName, opening.launcher),
        arena=opening.arena,
        io_depth=opening.io_depth,
        on_status=lambda status: None if quiet else console.print(status.text),
    )


def start_generation(llm: LLM, prompt_ids: list[int], flags: SamplingFlags) -> Generation:
    return llm.start(
        prompt_ids,
        max_tokens=flags.max_tokens,
        temperature=flags.temperature,
        top_k=flags.top_k,
        top_p=flags.top_p,
        min_p=flags.min_p,
        repeat_penalty=flags.repeat_penalty,
        seed=flags.seed,
        stop=flags.stop,
    )
