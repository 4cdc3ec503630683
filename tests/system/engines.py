"""Opening engines in tests, in one line."""

from pathlib import Path

from tidemill.actors.messages import Sampling
from tidemill.runtime.engine import Engine
from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.options import EngineOptions, LauncherName
from tidemill.storage.arena_plan import ArenaTooSmallError, plan_arena
from tidemill.storage.devices.device import LoadMode
from tidemill.storage.manifest_file import load_manifest

GREEDY = Sampling(0.0, 0, 1.0, 0.0, 1.0, 0)


def options(
    model: Path,
    *,
    launcher: LauncherName = "local",
    load_mode: LoadMode = "direct",
    ram: int | None = None,
    arena: int | None = None,
    context: int = 200,
) -> EngineOptions:
    return EngineOptions(
        model=model,
        ram_bytes=ram,
        arena_bytes=arena,
        context=context,
        threads=2,
        load_mode=load_mode,
        launcher=launcher,
        io_depth=4,
    )


def tokens_of(engine: Engine, prompt: list[int], count: int) -> list[int]:
    events = engine.generate(prompt, max_tokens=count, sampling=GREEDY, stop_ids=())
    return [event.token_id for event in events if isinstance(event, TokenGenerated)]


def checksums_of(engine: Engine, prompt: list[int], count: int) -> list[tuple[int, int]]:
    """Token and checksum of the logits' bits, of each step."""
    events = engine.generate(prompt, max_tokens=count, sampling=GREEDY, stop_ids=())
    return [(event.token_id, event.logits_checksum) for event in events if isinstance(event, TokenGenerated)]


def arena_of(model: Path, share: float) -> int:
    """Bytes of an arena with a share of the weights; 0: the least that a step needs."""
    manifest = load_manifest(model)
    try:
        plan_arena(manifest, 1)
    except ArenaTooSmallError as error:
        minimum = error.minimum_bytes
    return max(minimum, int(plan_arena(manifest, 1 << 50).arena_bytes * share))
