"""Rows of draft_vs_peers.py: one for each run, one for each contender, point and text. Pure but for the CSV of a run.

A *pass* is what one exact check brings: drafting, the check, and the tokens that it gave. Without drafts it is a token.
What a run did not say is None.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec

from benchmarks.active_rows import Spread, median_of, spread_of
from benchmarks.contenders import Decoded, Task, Tidemill
from benchmarks.measure import Point, Run
from benchmarks.repetition import seen_share
from benchmarks.report import count_equal

NONE = "tidemill none"  # what gain is over, and whose tokens the others' have to be
MMAP_PREFIX = "llama.cpp"


class KindCounts(msgspec.Struct, frozen=True):
    passes: int
    drafted: int
    accepted: int


class DraftSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of the `draft` object of `tidemill run --json`. Draft and check make a pass; time in kernels and
    time of waiting for the drive lie within."""

    kind: str
    passes: int
    drafted: int
    accepted: int
    acceptance: float | None
    tokens_per_pass: float
    by_kind: dict[str, KindCounts]
    draft_s_per_pass: float
    check_s_per_pass: float
    stall_s_per_pass: float
    compute_s_per_pass: float
    bytes_per_pass: float


@dataclass(frozen=True)
class DraftDecoded(Decoded):
    """`draft` is None for a run without drafts. Means over the tokens after the first: a pass gives its tokens at once,
    so that medians say nothing."""

    draft: DraftSaid | None = None
    mean_compute_s: float = 0.0
    mean_stall_s: float = 0.0
    mean_bytes: float = 0.0


class DraftTidemill(Tidemill):
    def read(self, stdout: str, task: Task) -> Decoded:
        decoded = super().read(stdout, task)
        with (task.scratch / "tokens.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))[1:]
        try:
            draft = msgspec.convert(msgspec.json.decode(stdout, type=dict).get("draft"), DraftSaid | None)
        except msgspec.ValidationError as error:
            raise ValueError(f"its `draft` object is another one: {error}") from None
        means = {name: fmean(int(row[name]) for row in rows) for name in ("compute_ns", "stall_ns", "flash_bytes")}
        return DraftDecoded(
            **vars(decoded),
            draft=draft,
            mean_compute_s=means["compute_ns"] / 1e9,
            mean_stall_s=means["stall_ns"] / 1e9,
            mean_bytes=means["flash_bytes"],
        )


class DraftWhere(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. A row that is equal in all of this is the same measurement."""

    label: str  # of the code that was measured
    model: str
    text: str
    contender: str
    flags: tuple[str, ...]
    ceiling_bytes: int | None
    throttle_bytes_per_s: int | None
    tokens: int
    prompt_tokens: int
    round: int


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """Of a pass, seconds and bytes on average: drafting and the check, or, of the same time, kernels, waiting for the
    drive and the rest. `overlap_s`: with a read under way that nothing waited for. `floor_s`: max(kernels, bytes / what
    the drive gave)."""

    tokens: float
    pass_s: float
    draft_s: float
    check_s: float
    compute_s: float
    stall_s: float
    rest_s: float
    overlap_s: float | None
    read_bytes: float
    floor_s: float | None
    times_floor: float | None


class DraftRow(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `s_per_token` is the mean over the tokens after the first, `equal_tokens` how many come before
    the first that differs from those without drafts, `identical` whether all are the same, `seen` the share of them
    that end a run of 4 which came before (see repetition.py; the prompt left aside)."""

    kind: str = "run"
    where: DraftWhere
    ceiling_share: float | None
    outcome: str
    detail: str
    s_per_token: float | None
    ttft_s: float | None
    token_ids: tuple[int, ...]
    equal_tokens: int | None
    identical: bool | None
    seen: float | None
    peak_bytes: int | None
    bytes_per_token: float | None
    drive_bytes_per_s: float | None
    draft: DraftSaid | None
    anatomy: Pass | None
    not_imposed: tuple[str, ...]


class DraftSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Over the rounds that ended well. `gain`: s/token without drafts over this one's, round by round; `times_mmap`:
    that of llama.cpp at the same point, on any text; `times_memory`: its median with no ceiling over this one's."""

    kind: str = "summary"
    where: DraftWhere  # of the first round
    ceiling_share: float | None
    outcomes: tuple[str, ...]
    identical: bool | None
    s_per_token: Spread | None
    gain: Spread | None
    times_mmap: Spread | None
    times_memory: float | None
    medians: dict[str, float | None]


def draft_row(where: DraftWhere, point: Point, whole_bytes: int, run: Run, expected: Sequence[int]) -> DraftRow:
    """`expected`: the tokens without drafts, empty while there are none."""
    decoded = run.decoded
    own = decoded if isinstance(decoded, DraftDecoded) else None
    drive = point.throttle_bytes_per_s or run.drive_bytes_per_s
    equal = count_equal(decoded.token_ids, expected) if decoded and expected else None
    return DraftRow(
        where=where,
        ceiling_share=None if point.ceiling_bytes is None else point.ceiling_bytes / whole_bytes,
        outcome=run.outcome,
        detail=run.detail,
        s_per_token=run.decode_mean_s_per_token,
        ttft_s=run.ttft_s,
        token_ids=decoded.token_ids if decoded else (),
        equal_tokens=equal,
        identical=None if equal is None or own is None else _is_same(own.token_ids, expected[: where.tokens]),
        seen=seen_share((), decoded.token_ids) if decoded else None,
        peak_bytes=run.peak_bytes,
        bytes_per_token=own.mean_bytes if own else None,
        drive_bytes_per_s=drive,
        draft=own.draft if own else None,
        anatomy=_anatomy(own, run.decode_mean_s_per_token, drive) if own else None,
        not_imposed=run.missing,
    )


def _is_same(token_ids: Sequence[int], expected: Sequence[int]) -> bool:
    """As far as the run without drafts went, which may have been the shorter one."""
    return tuple(token_ids[: len(expected)]) == tuple(expected)


def _anatomy(decoded: DraftDecoded, s_per_token: float | None, drive: float | None) -> Pass | None:
    """Of a run with drafts as it says; of one without, a pass is a token."""
    if s_per_token is None:
        return None
    said = decoded.draft
    tokens = said.tokens_per_pass if said else 1.0
    compute_s = said.compute_s_per_pass if said else decoded.mean_compute_s
    stall_s = said.stall_s_per_pass if said else decoded.mean_stall_s
    read_bytes = said.bytes_per_pass if said else decoded.mean_bytes
    busy_s, flash_s = (_read_s(read_bytes, rate) for rate in (decoded.flash_bytes_per_s, drive))
    pass_s = tokens * s_per_token
    floor_s = None if flash_s is None else max(compute_s, flash_s)
    return Pass(
        tokens=tokens,
        pass_s=pass_s,
        draft_s=said.draft_s_per_pass if said else 0.0,
        check_s=said.check_s_per_pass if said else pass_s,
        compute_s=compute_s,
        stall_s=stall_s,
        rest_s=pass_s - compute_s - stall_s,
        overlap_s=None if busy_s is None else max(0.0, busy_s - stall_s),
        read_bytes=read_bytes,
        floor_s=floor_s,
        times_floor=pass_s / floor_s if floor_s else None,
    )


def _read_s(read_bytes: float, bytes_per_s: float | None) -> float | None:
    """None: at no known rate."""
    if not read_bytes:
        return 0.0
    return read_bytes / bytes_per_s if bytes_per_s else None


def summarise_all(rows: Sequence[DraftRow]) -> list[DraftSummary]:
    groups: dict[tuple[int | None, int | None], dict[tuple[str, str], list[DraftRow]]] = {}
    for row in rows:
        point = groups.setdefault((row.where.throttle_bytes_per_s, row.where.ceiling_bytes), {})
        point.setdefault((row.where.contender, row.where.text), []).append(row)
    in_memory = [row for row in rows if row.where.ceiling_bytes is None and is_peer(row.where.contender)]
    return [
        _summarise(own, point.get((NONE, text), []), _first_peer(point), in_memory)
        for point in groups.values()
        for (_, text), own in point.items()
    ]


def is_peer(contender: str) -> bool:
    return contender.startswith(MMAP_PREFIX)


def _summarise(
    rows: Sequence[DraftRow], none: Sequence[DraftRow], mmap: Sequence[DraftRow], in_memory: Sequence[DraftRow]
) -> DraftSummary:
    anatomies = [row.anatomy for row in rows if row.anatomy]
    medians = {name: median_of([getattr(found, name) for found in anatomies]) for name in Pass.__struct_fields__}
    medians |= {name: median_of([getattr(row, name) for row in rows]) for name in ("ttft_s", "bytes_per_token", "seen")}
    medians["acceptance"] = median_of([row.draft.acceptance for row in rows if row.draft])
    peer_s, own_s = (median_of([row.s_per_token for row in of]) for of in (in_memory, rows))
    said = [row.identical for row in rows if row.identical is not None]
    return DraftSummary(
        where=rows[0].where,
        ceiling_share=rows[0].ceiling_share,
        outcomes=tuple(row.outcome for row in rows),
        identical=all(said) if said else None,
        s_per_token=spread_of([row.s_per_token for row in rows]),
        gain=_speedup(rows, none),
        times_mmap=_speedup(rows, mmap),
        times_memory=peer_s / own_s if peer_s and own_s else None,
        medians=medians,
    )


def _first_peer(point: dict[tuple[str, str], list[DraftRow]]) -> list[DraftRow]:
    return next((rows for (contender, _), rows in point.items() if is_peer(contender)), [])


def _speedup(rows: Sequence[DraftRow], others: Sequence[DraftRow]) -> Spread | None:
    theirs = {row.where.round: row.s_per_token for row in others}
    pairs = [(theirs.get(row.where.round), row.s_per_token) for row in rows]
    return spread_of([other / own for other, own in pairs if other and own])
