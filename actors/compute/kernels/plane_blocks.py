"""Loops over the blocks of rows that lie in planes, with what codes cannot express put in.

An exception is patched into the registers that hold its block's weights, and the sum goes on as if it had been there.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from tidemill.actors.compute.kernels.elements import I16, I32
from tidemill.actors.compute.kernels.llvm_code import I64, LANES, Code
from tidemill.actors.compute.kernels.planes import BLOCK, HALF, HALVES, Planes, Vectors

START = I64(0)
LANE_NUMBERS = ir.Constant(HALVES, list(range(HALF)))
# use(k, the halves of each row's block k, what is held) -> what is held then
Use = Callable[[ir.Value, Sequence[Vectors], Vectors], Vectors]


class Exceptions:
    """The weights that codes cannot express: u32 entries `place << 16 | bf16`, places rising, words[first:stop]."""

    def __init__(self, builder: ir.IRBuilder, words: ir.Value, first: ir.Value, stop: ir.Value) -> None:
        self.first = first
        self._builder = builder
        self._words = words
        self._stop = stop

    def _entry(self, e: ir.Value) -> ir.Value:
        return self._builder.zext(self._builder.load(self._builder.gep(self._words, [e]), typ=I32), I64)

    def next_block(self, e: ir.Value, size: ir.Value) -> ir.Value:
        """Where the block of entry e begins; `size` behind the last entry."""
        builder = self._builder
        before = builder.block
        with builder.if_then(builder.icmp_signed("<", e, self._stop)):
            inside = builder.and_(builder.lshr(self._entry(e), I64(16)), I64(-BLOCK))
            found = builder.select(builder.icmp_signed("<", inside, size), inside, size)
            there = builder.block
        begin = builder.phi(I64)
        begin.add_incoming(size, before)
        begin.add_incoming(found, there)
        return begin

    def patch(
        self, code: Code, halves: Vectors, k: ir.Value, e: ir.Value, size: ir.Value
    ) -> tuple[Vectors, ir.Value, ir.Value]:
        """The halves of block k, which has entry e, with its entries put in; the first entry behind them; its block."""
        builder = self._builder
        before = builder.block
        again, end = (builder.append_basic_block(name) for name in ("patch.again", "patch.end"))
        builder.branch(again)
        builder.position_at_end(again)
        here, *held = phis = [builder.phi(value.type) for value in (e, *halves)]
        for phi, value in zip(phis, (e, *halves), strict=True):
            phi.add_incoming(value, before)
        entry = self._entry(here)
        patched = [self._put(code, half, entry, h * HALF) for h, half in enumerate(held)]
        behind = builder.add(here, I64(1))
        block = self.next_block(behind, size)
        for phi, value in zip(phis, (behind, *patched), strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("==", block, k), again, end)
        builder.position_at_end(end)
        return patched, behind, block

    def _put(self, code: Code, half: ir.Value, entry: ir.Value, first: int) -> ir.Value:
        """The half that begins at weight `first` of its block, with the entry in its lane if it has one there."""
        builder = self._builder
        place = builder.lshr(entry, I64(16))
        inside = builder.and_(place, I64(HALF - 1))
        lane = builder.or_(builder.shl(builder.and_(inside, I64(LANES - 1)), I64(1)), builder.lshr(inside, I64(4)))
        number = builder.sub(builder.or_(lane, builder.and_(place, I64(HALF))), I64(first))
        is_meant = builder.icmp_unsigned("==", code.splat(builder.trunc(number, I16), HALVES), LANE_NUMBERS)
        return builder.select(is_meant, code.splat(builder.trunc(entry, I16), HALVES), half)


class Row(NamedTuple):
    planes: Planes
    exceptions: Exceptions


def each_block(
    code: Code, rows: Sequence[Row], size: ir.Value, held: Vectors, use: Use, begin: ir.Value = START
) -> Vectors:
    """held = use(k, each row's halves, held) for k = begin, begin + BLOCK, … < size of rows side by side, whose
    exceptions are those from `begin` on."""
    builder, count = code.builder, len(rows)

    def body(k: ir.Value, state: Vectors) -> Vectors:
        """The state: each row's next entry, the block where it lies, the first of these blocks; then what is held."""
        halves = [row.planes.halves(k) for row in rows]
        entries, blocks, (soonest, *held) = state[:count], state[count : 2 * count], state[2 * count :]
        before = builder.block
        special, plain = (builder.append_basic_block(name) for name in ("rows.special", "rows.plain"))
        builder.cbranch(builder.icmp_signed("==", soonest, k), special, plain)
        builder.position_at_end(special)
        found = [_patch_row(code, *parts, k, size) for parts in zip(rows, halves, entries, blocks, strict=True)]
        patched, behind, following = zip(*found, strict=True)
        after = [half for row in patched for half in row], *behind, *following, _least(builder, following)
        there = builder.block
        builder.branch(plain)
        builder.position_at_end(plain)
        joined = []
        old = [half for row in halves for half in row]
        for value, new in zip((*old, *entries, *blocks, soonest), (*after[0], *after[1:]), strict=True):
            phi = builder.phi(value.type)
            phi.add_incoming(value, before)
            phi.add_incoming(new, there)
            joined.append(phi)
        flat, following_state = joined[: len(old)], joined[len(old) :]
        return [*following_state, *use(k, [flat[i : i + 2] for i in range(0, len(flat), 2)], held)]

    firsts = [row.exceptions.first for row in rows]
    blocks = [row.exceptions.next_block(first, size) for row, first in zip(rows, firsts, strict=True)]
    state = [*firsts, *blocks, _least(builder, blocks), *held]
    return code.loop(begin, size, BLOCK, state, body)[2 * count + 1 :]


def _least(builder: ir.IRBuilder, values: Sequence[ir.Value]) -> ir.Value:
    least, *others = values
    for value in others:
        least = builder.select(builder.icmp_signed("<", value, least), value, least)
    return least


def _patch_row(
    code: Code, row: Row, halves: Vectors, e: ir.Value, block: ir.Value, k: ir.Value, size: ir.Value
) -> tuple[Vectors, ir.Value, ir.Value]:
    """As `Exceptions.patch`, of a row whose next entry may lie in a later block."""
    builder = code.builder
    before = builder.block
    own, after = (builder.append_basic_block(name) for name in ("row.own", "row.after"))
    builder.cbranch(builder.icmp_signed("==", block, k), own, after)
    builder.position_at_end(own)
    patched, behind, following = row.exceptions.patch(code, halves, k, e, size)
    there = builder.block
    builder.branch(after)
    builder.position_at_end(after)
    joined = []
    for old, new in zip((*halves, e, block), (*patched, behind, following), strict=True):
        phi = builder.phi(old.type)
        phi.add_incoming(old, before)
        phi.add_incoming(new, there)
        joined.append(phi)
    return joined[:2], joined[2], joined[3]
