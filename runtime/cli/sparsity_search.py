"""`--sparsity auto` of verbs that run: the planner's search decides, and says what it took and why."""

from pathlib import Path
from typing import Literal, cast

from tidemill.actors.arena.residency.choose_policy import QuotaKind, ResidencyKind
from tidemill.runtime.active_planning import Grounds, options_of, search_ways
from tidemill.runtime.cell_plan import CHUNK
from tidemill.runtime.cli.flags import Opening
from tidemill.runtime.cli.plan_basis import find_basis
from tidemill.runtime.cli.progress import stderr_console
from tidemill.runtime.llm import AUTO_SHARE, DEFAULT_CONTEXT
from tidemill.runtime.memory import available_bytes
from tidemill.runtime.options import (
    EngineOptions,
    check_options,
    choose_load_mode,
    choose_quotas,
    default_threads,
)
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.sizes import parse_size
from tidemill.storage.devices.device import LoadMode


def settle_sparsity(opening: Opening, directory: Path, *, context: int | None, prompt_tokens: int) -> Opening:
    """With the sparsity and preload that were found, told on stderr.

    Raises what `search_ways` does.
    """
    options = _options(opening, directory, context)
    basis = find_basis(directory, None, options.threads)
    shape = RunShape(
        prompt_tokens=prompt_tokens,
        chunk=CHUNK,
        position=prompt_tokens,
        io_depth=options.io_depth,
        threads=options.threads,
    )
    grounds = Grounds(rates=basis.rates, processes=basis.processes, shape=shape)
    ways, why = search_ways([options], grounds, opening.worst_ratio)
    best = ways[0]
    found = options_of(best, [options])
    assert found.selection is not None, "a way is a selection"
    preload = "nothing preloaded" if best.preload == "none" else f"{best.preload} preloads of {best.preload_share:.0%}"
    assumed = " (rates are assumed: tidemill tune)" if basis.rates.measured_at == "never" else ""
    stderr_console().print(
        f"chosen: {found.selection.name}, {preload}: {why}; predicted {1 / best.token_s:.2f} tok/s{assumed}, "
        f"perplexity × {best.ratio:.2f}",
        markup=False,
    )
    return opening._replace(selection=found.selection, preload=found.preload, preload_share=found.preload_share)


def _options(opening: Opening, directory: Path, context: int | None) -> EngineOptions:
    ram = int(available_bytes() * AUTO_SHARE) if opening.ram == "auto" else opening.ram_or_none
    options = EngineOptions(
        model=directory,
        ram_bytes=parse_size(ram) if isinstance(ram, str) else ram,
        arena_bytes=None,
        context=DEFAULT_CONTEXT if context is None else context,
        threads=default_threads() if opening.threads is None else opening.threads,
        load_mode=choose_load_mode(cast(LoadMode | Literal["auto"], opening.load_mode)),
        launcher="local",
        io_depth=opening.io_depth,
        selection=opening.selection,
        residency=cast(ResidencyKind, opening.residency),
        quotas=choose_quotas(
            cast(QuotaKind | None, opening.quotas), cast(ResidencyKind, opening.residency), opening.selection
        ),
    )
    return check_options(options, explicit_context=context is not None)
