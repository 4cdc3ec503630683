"""Planes → the elements that they were split from, exactly, in registers or in scratch that the caches hold.

Sums run in the order of kernels/tiles.py and on the same values, so a table of planes gives the bits of the same table
stored raw. What lies how in a plane, and why: storage/codecs/planes.py.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.elements import I16, I32, widen_pairs
from tidemill.actors.compute.kernels.llvm_code import I64, LANES, VECTOR, Code, arrays_of, require_flat

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
HALF = 32
BLOCK = 2 * HALF  # weights that lie together; storage.codecs.planes.BLOCK
BYTES = ir.VectorType(ir.IntType(8), HALF)
CODES = ir.VectorType(ir.IntType(8), BLOCK)
HALVES = ir.VectorType(I16, HALF)
PAIRS = ir.VectorType(I32, LANES)

START = I64(0)
AHEAD_BYTES = 4096  # measured: 2048 and 8192 are slower by some percent, none by a quarter

Vectors = Sequence[ir.Value]


def _splat(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def load_bytes(builder: ir.IRBuilder, data: ir.Value, at: ir.Value) -> ir.Value:
    """HALF bytes, each widened to 16 bits."""
    value = builder.load(builder.bitcast(builder.gep(data, [at]), BYTES.as_pointer()), typ=BYTES)
    value.align = 1
    return builder.zext(value, HALVES)


class Planes:
    """A run of weights in two planes of bf16, block by block.

    `ahead`: where the codes and the rest lie that are wanted after this run, to be fetched meanwhile; by default,
    what follows in memory.
    """

    def __init__(
        self, code: Code, data: ir.Value, codes_at: ir.Value, rest_at: ir.Value, base: ir.Value,
        ahead: tuple[ir.Value, ir.Value] | None = None,
    ) -> None:  # fmt: skip
        self._code = code
        self._builder = code.builder
        self._data = data
        self._codes_at = codes_at
        self._rest_at = rest_at
        self._ahead = ahead or (
            code.builder.add(codes_at, I64(AHEAD_BYTES)), code.builder.add(rest_at, I64(AHEAD_BYTES // 2))
        )  # fmt: skip
        self._base = code.splat(code.builder.trunc(code.builder.lshr(base, I64(1)), ir.IntType(8)), CODES)

    def halves(self, k: ir.Value) -> Vectors:
        """The block's weights as bf16, pairwise: lanes 2j and 2j + 1 hold weights j and LANES + j of a half."""
        builder = self._builder
        rest_at, codes_at = builder.add(self._rest_at, builder.lshr(k, I64(1))), builder.add(self._codes_at, k)
        # Between rows the arithmetic waits for sums, and hardware that guesses from loads falls behind.
        for ahead, at in zip(self._ahead, (k, builder.lshr(k, I64(1))), strict=True):
            self._code.prefetch(builder.gep(self._data, [builder.add(ahead, at)]))
        codes = builder.load(builder.bitcast(builder.gep(self._data, [codes_at]), CODES.as_pointer()), typ=CODES)
        codes.align = 1
        rest = load_bytes(builder, self._data, rest_at)
        nibbles = builder.bitcast(builder.or_(rest, builder.shl(rest, _splat(HALVES, 4))), CODES)
        moved = builder.bitcast(builder.shl(builder.bitcast(codes, HALVES), _splat(HALVES, 4)), CODES)
        low = builder.or_(builder.and_(moved, _splat(CODES, 0xF0)), builder.and_(nibbles, _splat(CODES, 0x0F)))
        exponents = builder.and_(self._shifted(codes), _splat(CODES, 0x07))
        is_zero = builder.icmp_unsigned("==", builder.or_(exponents, low), _splat(CODES, 0))
        based = builder.select(is_zero, _splat(CODES, 0), builder.add(exponents, self._base))
        high = builder.or_(based, builder.and_(codes, _splat(CODES, 0x80)))
        return interleave(builder, low, high)

    def _shifted(self, codes: ir.Value) -> ir.Value:
        """Each byte's upper bits moved down, with bits of its neighbour above them: there is no shift of bytes."""
        builder = self._builder
        return builder.bitcast(builder.lshr(builder.bitcast(codes, HALVES), _splat(HALVES, 4)), CODES)


def interleave(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> Vectors:
    """The two halves of a block from the lower and the upper bytes of its weights, both in the order of codes."""
    return [builder.bitcast(builder.shuffle_vector(low, high, _interleave(h)), HALVES) for h in (0, 1)]


def _interleave(half: int) -> ir.Constant:
    """Lower and upper bytes in turn, of the bytes 8 · half .. + 8 of each 16: what registers do at once."""
    picked = [16 * q + 8 * half + i + upper * BLOCK for q in range(4) for i in range(8) for upper in (0, 1)]
    return ir.Constant(ir.VectorType(I32, BLOCK), picked)


def widen_halves(builder: ir.IRBuilder, halves: Vectors) -> Vectors:
    return [vector for half in halves for vector in widen_pairs(builder, builder.bitcast(half, PAIRS))]


class Exceptions:
    """The weights that codes cannot express: u32 entries `place << 16 | bf16`, places rising."""

    def __init__(self, builder: ir.IRBuilder, words: ir.Value, stop: ir.Value) -> None:
        self._builder = builder
        self._words = words
        self._stop = stop
        self._patched = cgutils.alloca_once(builder, ir.ArrayType(HALVES, 2))

    def entry(self, e: ir.Value) -> ir.Value:
        return self._builder.zext(self._builder.load(self._builder.gep(self._words, [e]), typ=I32), I64)

    def next_block(self, e: ir.Value, size: ir.Value) -> ir.Value:
        """Where the block of entry e begins; `size` behind the last entry."""
        builder = self._builder
        found = cgutils.alloca_once_value(builder, size)
        with builder.if_then(builder.icmp_signed("<", e, self._stop)):
            place = builder.lshr(self.entry(e), I64(16))
            inside = builder.and_(place, I64(-BLOCK))
            builder.store(builder.select(builder.icmp_signed("<", inside, size), inside, size), found)
        return builder.load(found, typ=I64)

    def patch(self, halves: Vectors, k: ir.Value, e: ir.Value) -> tuple[Vectors, ir.Value]:
        """The halves of block k with its entries put in, and the first entry behind them."""
        builder = self._builder
        for i, half in enumerate(halves):
            builder.store(half, builder.gep(self._patched, [I32(0), I32(i)])).align = 2
        at = cgutils.alloca_once_value(builder, e)
        elements = builder.bitcast(self._patched, I16.as_pointer())
        head, body, end = (builder.append_basic_block(name) for name in ("patch.head", "patch.body", "patch.end"))
        more = builder.append_basic_block("patch.more")
        builder.branch(head)
        builder.position_at_end(head)
        here = builder.load(at, typ=I64)
        builder.cbranch(builder.icmp_signed("<", here, self._stop), more, end)
        builder.position_at_end(more)
        entry = self.entry(here)
        place = builder.sub(builder.lshr(entry, I64(16)), k)
        builder.cbranch(builder.icmp_unsigned("<", place, I64(BLOCK)), body, end)
        builder.position_at_end(body)
        inside = builder.and_(place, I64(HALF - 1))
        lane = builder.or_(builder.shl(builder.and_(inside, I64(LANES - 1)), I64(1)), builder.lshr(inside, I64(4)))
        target = builder.gep(elements, [builder.or_(builder.and_(place, I64(HALF)), lane)])
        builder.store(builder.trunc(entry, I16), target).align = 2
        builder.store(builder.add(here, I64(1)), at)
        builder.branch(head)
        builder.position_at_end(end)
        patched = []
        for i in (0, 1):
            value = builder.load(builder.gep(self._patched, [I32(0), I32(i)]), typ=HALVES)
            value.align = 2
            patched.append(value)
        return patched, builder.load(at, typ=I64)


def each_block(
    code: Code, planes: Planes, exceptions: Exceptions, first: ir.Value, size: ir.Value,
    held: Vectors, use: Callable[[ir.Value, Vectors, Vectors], Vectors], begin: ir.Value = START,
) -> Vectors:  # fmt: skip
    """held = use(k, the block's halves, held) for k = begin, begin + BLOCK, … < size of a row; `first` is the first
    exception from `begin` on.

    Runs of blocks without exceptions are one tight loop; a block with some takes a way through memory.
    """
    builder = code.builder
    before = builder.block
    head, special, after = (builder.append_basic_block(name) for name in ("row.head", "row.special", "row.end"))
    builder.branch(head)
    builder.position_at_end(head)
    start, e = builder.phi(I64), builder.phi(I64)
    phis = [builder.phi(value.type) for value in held]
    for phi, value in zip((start, e, *phis), (begin, first, *held), strict=True):
        phi.add_incoming(value, before)
    until = exceptions.next_block(e, size)
    values = code.loop(start, until, BLOCK, phis, lambda k, sums: use(k, planes.halves(k), sums))
    builder.cbranch(builder.icmp_signed("<", until, size), special, after)
    builder.position_at_end(special)
    patched, behind = exceptions.patch(planes.halves(until), until, e)
    values_after = use(until, patched, values)
    for phi, value in zip((start, e, *phis), (builder.add(until, I64(BLOCK)), behind, *values_after), strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def _open_row(context, builder, signature, args):  # type: ignore[no-untyped-def]
    """The parts of a row intrinsic's first seven arguments."""
    code = Code(builder)
    data, words = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 1))
    planes = Planes(code, data, args[2], args[3], args[4])
    return code, planes, Exceptions(builder, words, args[6])


ROW = [types.int64] * 5  # codes_at, rest_at, base, first exception, last


@intrinsic
def dot_row(typing_context, arena, words, codes_at, rest_at, base, first, last, x, x_at, size):  # type: ignore[no-untyped-def]
    """Σ_k row[k] · x[x_at + k], in the order of `tiles.dot_single`; `size` is a multiple of BLOCK."""
    require_flat(arena, words, x)
    signature = types.float32(arena, words, *ROW, x, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        code, planes, exceptions = _open_row(context, builder, signature, args)
        (x,) = arrays_of(context, builder, signature, args, (7,))

        def use(k: ir.Value, halves: Vectors, sums: Vectors) -> Vectors:
            (total,) = sums
            for i, vector in enumerate(widen_halves(builder, halves)):
                total = code.fma(vector, x.load(builder.add(builder.add(args[8], k), I64(i * LANES)), LANES), total)
            return [total]

        zero = ir.Constant(VECTOR, [0.0] * LANES)
        (total,) = each_block(code, planes, exceptions, args[5], args[9], [zero], use)
        return code.fold(total, builder.fadd)

    return signature, codegen


@intrinsic
def add_row(typing_context, arena, words, codes_at, rest_at, base, first, last, factor, out, out_at, size):  # type: ignore[no-untyped-def]
    """out[out_at + k] += factor · row[k], as `tiles.add_single`; `size` is a multiple of BLOCK."""
    require_flat(arena, words, out)
    signature = types.void(arena, words, *ROW, types.float32, out, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        code, planes, exceptions = _open_row(context, builder, signature, args)
        (out,) = arrays_of(context, builder, signature, args, (8,))
        factor = code.splat(args[7], VECTOR)

        def use(k: ir.Value, halves: Vectors, held: Vectors) -> Vectors:
            for i, vector in enumerate(widen_halves(builder, halves)):
                place = builder.add(builder.add(args[9], k), I64(i * LANES))
                out.store(code.fma(factor, vector, out.load(place, LANES)), place, LANES)
            return held

        each_block(code, planes, exceptions, args[5], args[10], [], use)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def join_f16(typing_context, arena, upper_at, lower_at, out, out_at, size):  # type: ignore[no-untyped-def]
    """out[out_at ...] = f16 from their upper and lower bytes; out is i16, `size` is a multiple of BLOCK."""
    require_flat(arena, out)
    signature = types.void(arena, types.int64, types.int64, out, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data, out = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 3))

        def body(k: ir.Value, held: Vectors) -> Vectors:
            upper, lower = (load_bytes(builder, data, builder.add(at, k)) for at in args[1:3])
            place = builder.bitcast(builder.gep(out, [builder.add(args[4], k)]), HALVES.as_pointer())
            builder.store(builder.or_(builder.shl(upper, _splat(HALVES, 8)), lower), place).align = 2
            return held

        Code(builder).loop(I64(0), args[5], HALF, [], body)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def join_row(typing_context, arena, words, codes_at, rest_at, base, first, last, out, out_at, size):  # type: ignore[no-untyped-def]
    """out[out_at ...] = the row as pairs (elements.widen_pairs); out is u32, `out_at` and `size` count weights."""
    require_flat(arena, words, out)
    signature = types.void(arena, words, *ROW, out, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        code, planes, exceptions = _open_row(context, builder, signature, args)
        out = context.make_array(signature.args[7])(context, builder, args[7]).data
        start = builder.gep(out, [builder.lshr(args[8], I64(1))])

        def use(k: ir.Value, halves: Vectors, held: Vectors) -> Vectors:
            for i, half in enumerate(halves):
                place = builder.gep(start, [builder.add(builder.lshr(k, I64(1)), I64(i * LANES))])
                builder.store(half, builder.bitcast(place, HALVES.as_pointer())).align = 4
            return held

        each_block(code, planes, exceptions, args[5], args[9], [], use)
        return context.get_dummy_value()

    return signature, codegen
