"""Opens a model from flags. The one place where the command line meets the Python API."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from tidemill.actors.arena.residency.choose_policy import QuotaKind, ResidencyKind
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.cli.flags import Opening, SamplingFlags
from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.cli.selection_flags import lossy_warning
from tidemill.runtime.generation import Generation
from tidemill.runtime.llm import AUTO_SHARE, LLM
from tidemill.runtime.memory import available_bytes
from tidemill.runtime.options import EngineOptions, LauncherName, check_options, choose_load_mode, default_threads
from tidemill.runtime.sizes import parse_size
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.devices.device import LoadMode


def open_model(
    opening: Opening, directory: Path, *, context: int | None, quiet: bool, tokenizer: TextTokenizer | None = None
) -> LLM:
    console = stderr_console()
    if opening.selection is not None and not quiet:
        _warn_of_quality(opening.selection, directory)
    llm = LLM.open(
        directory,
        ram=opening.ram_or_none,
        context=context,
        threads=opening.threads,
        load_mode=cast(LoadMode | Literal["auto"], opening.load_mode),
        launcher=cast(LauncherName, opening.launcher),
        arena=opening.arena,
        io_depth=opening.io_depth,
        device=opening.device,
        verify_reads=opening.verify_reads,
        restart=opening.restart,
        selection=opening.selection,
        residency=cast(ResidencyKind, opening.residency),
        quotas=cast(QuotaKind | None, opening.quotas),
        preload=cast(PreloadKind, opening.preload),
        preload_share=opening.preload_share,
        traces=opening.traces,
        hot_set=opening.hot_set,
        draft=opening.draft,
        draft_length=opening.draft_length,
        tokenizer=tokenizer,
        on_status=lambda status: None if quiet else console.print(status.text),
    )
    if opening.selection is not None and not quiet:
        _warn_of_cache(llm, opening.selection, directory)
    return llm


def _warn_of_quality(selection: SelectionSpec, directory: Path) -> None:
    from tidemill.runtime.calibration.calibration_file import CalibrationFile  # what exact decoding does without

    stderr_console().print(lossy_warning(selection, CalibrationFile.open(directory).record.card, directory))


def _warn_of_cache(llm: LLM, selection: SelectionSpec, directory: Path) -> None:
    from tidemill.runtime.active_planning import active_shares, small_cache_warning

    if warning := small_cache_warning(llm.engine.manifest, llm.engine.bundles, active_shares(directory, selection)):
        stderr_console().print(warning, markup=False)


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


def window_options(
    opening: Opening, directory: Path, *, default_window: int, selections: tuple[SelectionSpec, ...]
) -> EngineOptions:
    """For passes over text: -c is the window. Raises ValueError."""
    ram = int(available_bytes() * AUTO_SHARE) if opening.ram == "auto" else opening.ram_or_none
    options = EngineOptions(
        model=directory,
        ram_bytes=parse_size(ram) if isinstance(ram, str) else ram,
        arena_bytes=None if opening.arena is None else parse_size(opening.arena),
        context=opening.context or default_window,
        threads=opening.threads or default_threads(),
        load_mode=choose_load_mode(cast(LoadMode | Literal["auto"], opening.load_mode)),
        launcher=cast(LauncherName, opening.launcher),
        io_depth=opening.io_depth,
        selections=selections,
    )
    options = check_options(options, explicit_context=opening.context is not None)
    return replace(options, window=options.context)
