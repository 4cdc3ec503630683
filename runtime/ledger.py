"""The ceiling divided up, once, at start. Pure: it is told what the processes weigh and decides what the arena gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.storage.arena_plan import ArenaPlan, ArenaTooSmallError, LockFirst, least_arena_bytes, plan_arena
from tidemill.storage.bundle_plan import READ_AHEAD_SHARE
from tidemill.storage.manifest import Manifest

MIB = 1024 * 1024
# What Python's heaps, allocator slack and tokenization grow by after the processes were measured; about 17 MiB were
# seen for the whole tree, most of it in the engine (tokenizer, progress display).
GROWTH_BYTES = 24 * MIB
# Page tables, pipes and sockets count in a memory cgroup but in no process: 8 bytes per 4 KiB page in each of the two
# processes that map the arena, and a fixed part.
KERNEL_FIXED_BYTES = 8 * MIB
PAGE_TABLE_RATIO = 2 * 8 / 4096


class CeilingTooSmallError(ValueError):
    """The ceiling cannot hold what a step needs. Says the minimum and what takes it."""


class NotEnoughMemoryError(ValueError):
    """What the ledger plans to take is not there: the machine would swap or kill."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What has to stand beside the arena, in bytes."""

    processes: Mapping[str, int]  # proportional set size of each process, measured before anything was allocated
    kv_bytes: int
    activation_bytes: int
    link_bytes: int
    bounce_bytes: int  # the reader's buffers for compressed or unaligned reads
    residency_bytes: int = 0  # what the arena notes of every single bundle
    preload_share: float = READ_AHEAD_SHARE  # of the room for single bundles
    drafts: Mapping[str, int] = field(default_factory=dict)  # lines of what drafts tokens, beside what the arena holds


@dataclass(frozen=True, slots=True)
class Ledger:
    """Lines add up to at most the ceiling. `ceiling_bytes` is None when no ceiling was asked for."""

    ceiling_bytes: int | None
    lines: tuple[tuple[str, int], ...]
    arena: ArenaPlan

    @property
    def total_bytes(self) -> int:
        return sum(line_bytes for _, line_bytes in self.lines)


def plan_ledger(
    manifest: Manifest,
    demands: Demands,
    *,
    ceiling_bytes: int | None,
    arena_bytes: int | None,
    lock_first: LockFirst = "even",
    resident_from: int | None = None,
) -> Ledger:
    """Give the arena what the ceiling leaves, or exactly `arena_bytes` if that is asked for and fits.

    `lock_first`, `resident_from`: how the arena is divided (`plan_arena`).
    Raises CeilingTooSmallError naming the smallest ceiling (or arena) that would do and the lines that take it.
    """
    lines = _lines_beside(demands)
    beside_bytes = sum(line_bytes for _, line_bytes in lines) + KERNEL_FIXED_BYTES
    wanted_bytes = whole_model_bytes(manifest) if arena_bytes is None else arena_bytes
    if ceiling_bytes is not None:
        room_bytes = int((ceiling_bytes - beside_bytes) / (1 + PAGE_TABLE_RATIO))
        if arena_bytes is not None and arena_bytes > room_bytes:
            raise CeilingTooSmallError(_arena_text(ceiling_bytes, arena_bytes, room_bytes))
        wanted_bytes = min(wanted_bytes, room_bytes)
    try:
        plan = plan_arena(
            manifest,
            wanted_bytes,
            lock_first=lock_first,
            resident_from=resident_from,
            preload_share=demands.preload_share,
        )
    except ArenaTooSmallError as error:
        holds = _arena_words(lock_first, resident_from)
        if wanted_bytes == arena_bytes:
            raise CeilingTooSmallError(_small_arena_text(arena_bytes, error.minimum_bytes, holds)) from None
        minimum_bytes = _with_arena(beside_bytes, error.minimum_bytes)
        lines.append((f"smallest arena ({holds})", error.minimum_bytes))
        is_drafted = lock_first == "plane-0" or resident_from is not None
        raise CeilingTooSmallError(_ceiling_text(ceiling_bytes or 0, minimum_bytes, lines, is_drafted)) from None
    kernel_bytes = KERNEL_FIXED_BYTES + int(plan.arena_bytes * PAGE_TABLE_RATIO)
    lines += [("kernel memory", kernel_bytes), ("arena", plan.arena_bytes)]
    return Ledger(ceiling_bytes, tuple(lines), plan)


def least_ceiling_bytes(
    manifest: Manifest, demands: Demands, *, lock_first: LockFirst = "even", resident_from: int | None = None
) -> int:
    """The smallest ceiling, in whole MiB, that `plan_ledger` divides so."""
    beside_bytes = sum(line_bytes for _, line_bytes in _lines_beside(demands)) + KERNEL_FIXED_BYTES
    arena_bytes = least_arena_bytes(manifest, lock_first, resident_from)
    return -(-_with_arena(beside_bytes, arena_bytes) // MIB) * MIB


def _with_arena(beside_bytes: int, arena_bytes: int) -> int:
    return beside_bytes + int(arena_bytes * (1 + PAGE_TABLE_RATIO))


def _lines_beside(demands: Demands) -> list[tuple[str, int]]:
    lines = [(f"process {name}", size) for name, size in demands.processes.items()]
    lines += [
        ("growth of processes", GROWTH_BYTES),
        ("KV cache", demands.kv_bytes),
        ("activations", demands.activation_bytes),
        ("links", demands.link_bytes),
        ("read buffers", demands.bounce_bytes),
        *demands.drafts.items(),
    ]
    if demands.residency_bytes:
        lines.append(("residency", demands.residency_bytes))
    return lines


def check_available(ledger: Ledger, demands: Demands, available_bytes: int) -> None:
    """Raises NotEnoughMemoryError when what is still to be taken exceeds what this machine, or its cgroup, has left."""
    more_bytes = ledger.total_bytes - sum(demands.processes.values())
    if more_bytes > available_bytes:
        enough_bytes = ledger.total_bytes - more_bytes + available_bytes
        raise NotEnoughMemoryError(
            f"this run would take {_mib(more_bytes)} more and {_mib(available_bytes)} are available; the machine "
            "would swap or kill. "
            f"Give --ram {enough_bytes // MIB}MiB or less, or close something"
        )


def whole_model_bytes(manifest: Manifest) -> int:
    """An arena that holds every extent at once, row slots included."""
    return sum(extent.bytes + 4096 for extent in manifest.extents) + 64 * MIB


def _arena_words(lock_first: LockFirst, resident_from: int | None) -> str:
    """What the smallest arena holds."""
    planes = ", plane 0 of every matrix" if lock_first == "plane-0" else ""
    drafting = ", the draft model" if resident_from is not None else ""
    return f"row slots, vectors{planes}{drafting} and the smallest ring"


def _ceiling_text(ceiling_bytes: int, minimum_bytes: int, lines: list[tuple[str, int]], is_drafted: bool) -> str:
    table = "\n".join(f"  {_mib(line_bytes):>12}  {name}" for name, line_bytes in lines)
    otherwise = " Or draft otherwise: --draft auto, ngram or none." if is_drafted else ""
    return (
        f"--ram {_mib(ceiling_bytes)} is too small: this model{' with these drafts' if is_drafted else ''} needs at "
        f"least {_mib_up(minimum_bytes)} here.\n"
        f"What takes it:\n{table}\n"
        f"Give more with --ram, or shorten the context with -c.{otherwise}"
    )


def _arena_text(ceiling_bytes: int, arena_bytes: int, room_bytes: int) -> str:
    return (
        f"--arena {_mib(arena_bytes)} does not fit --ram {_mib(ceiling_bytes)}: {_mib(max(0, room_bytes))} are left "
        "for "
        "the arena. Give a larger --ram, a smaller --arena, or leave --arena out."
    )


def _small_arena_text(arena_bytes: int, minimum_bytes: int, holds: str) -> str:
    return (
        f"--arena {_mib(arena_bytes)} is too small: a step of this model needs at least {_mib_up(minimum_bytes)} "
        f"({holds})"
    )


def _mib(byte_count: int) -> str:
    return f"{byte_count / MIB:.1f} MiB"


def _mib_up(byte_count: int) -> str:
    return f"{-(-byte_count // MIB)} MiB"
