"""Rows of planes times a few positions, joined in registers: a row is read once for all of them, and never stored.

Rows are numbered in their extent of `total` rows of `size` weights, a multiple of BLOCK, whose planes begin at bytes
`codes_at` and `rest_at` of the arena; a tile takes `row`, `row + step`, …, and meanwhile fetches the rows `ahead` of
them. Sums run in the order of kernels/tiles.py.
"""

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.elements import I32
from tidemill.actors.compute.kernels.llvm_code import I64, LANES, VECTOR, Code, arrays_of, require_flat
from tidemill.actors.compute.kernels.plane_blocks import Exceptions, Row, each_block
from tidemill.actors.compute.kernels.planes import BLOCK, Planes, Vectors, widen_halves
from tidemill.actors.compute.kernels.tiles import each_count

FEW = 16  # positions; for more, it is faster to join rows into scratch
TILE_FEW = 8  # positions whose sums with two rows the registers hold
TILE_SIZES = (1, 2, 3, 4, 5, 6, 8)  # that there is code for; of seven, the last is computed twice
TILE_NEURONS = 4  # rows that are added to sums at once
TILE = [types.int64] * 8  # codes_at, rest_at, base, total, row, step, ahead, size
VECTORS = BLOCK // LANES


def _open_tile(context, builder, signature, args, count: int):  # type: ignore[no-untyped-def]
    """The rows of a tile intrinsic's first ten arguments."""
    code = Code(builder)
    data, words = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 1))
    codes_at, rest_at, base, total, row, step, ahead, size = args[2:10]
    half = builder.lshr(size, I64(1))
    starts = builder.lshr(builder.add(rest_at, builder.mul(total, half)), I64(2))
    entries = code.plus(builder.add(starts, total), I64(1))

    def place(number: ir.Value) -> tuple[ir.Value, ir.Value]:
        return code.plus(codes_at, builder.mul(number, size)), code.plus(rest_at, builder.mul(number, half))

    def entry_of(number: ir.Value) -> ir.Value:
        word = builder.load(builder.gep(words, [builder.add(starts, number)]), typ=I32)
        return builder.add(entries, builder.zext(word, I64))

    rows = []
    for r in range(count):
        number = code.plus(row, step, r)
        planes = Planes(code, data, *place(number), base, place(builder.add(number, ahead)))
        exceptions = Exceptions(builder, words, entry_of(number), entry_of(code.plus(number, I64(1))))
        rows.append(Row(planes, exceptions))
    return code, rows


@intrinsic
def dot_tile(  # type: ignore[no-untyped-def]
    typing_context, arena, words, codes_at, rest_at, base, total, row, step, ahead, size,
    x, batch, out, out_at, out_stride,
):  # fmt: skip
    """out[out_at + b · out_stride + r · step] = row r · x[b · size …] for r < 2 and b < batch.

    With a step of 0 it is one row, computed twice. The batch is split into tiles of nearly equal size.
    """
    require_flat(arena, words, x, out)
    number = types.int64
    signature = types.void(arena, words, *TILE, x, number, out, number, number)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        step, size, batch, out_at, out_stride = args[7], args[9], args[11], args[13], args[14]
        x, out = arrays_of(context, builder, signature, args, (10, 12))

        def emit(begin: ir.Value, count: ir.Value, positions: int) -> None:
            code, rows = _open_tile(context, builder, signature, args, 2)
            last = builder.sub(count, I64(1))
            numbers = [builder.add(begin, _least(builder, I64(b), last)) for b in range(positions)]
            x_at = [builder.mul(b, size) for b in numbers]

            def use(k: ir.Value, halves: Sequence[Vectors], sums: Vectors) -> Vectors:
                vectors = [widen_halves(builder, row) for row in halves]
                for i in range(VECTORS):
                    inputs = [x.load(builder.add(builder.add(at, k), I64(i * LANES)), LANES) for at in x_at]
                    weights = [row[i] for row in vectors for _ in inputs]
                    sums = [code.fma(*parts) for parts in zip(weights, inputs * 2, sums, strict=True)]
                return sums

            zeros = [ir.Constant(VECTOR, [0.0] * LANES)] * (2 * positions)
            for i, total in enumerate(each_block(code, rows, size, zeros, use)):
                at = builder.add(out_at, builder.mul(numbers[i % positions], out_stride))
                out.store(code.fold(total, builder.fadd), code.plus(at, step, i // positions))

        def tile(t: ir.Value, held: Vectors) -> Vectors:
            begin, end = (builder.udiv(builder.mul(batch, i), tiles) for i in (t, builder.add(t, I64(1))))
            count = builder.sub(end, begin)
            each_count(builder, count, TILE_SIZES, lambda positions: emit(begin, count, positions))
            return held

        tiles = builder.udiv(builder.add(batch, I64(TILE_FEW - 1)), I64(TILE_FEW))
        Code(builder).loop(I64(0), tiles, 1, [], tile)
        return context.get_dummy_value()

    return signature, codegen


def _least(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


@intrinsic
def add_tile(  # type: ignore[no-untyped-def]
    typing_context, arena, words, codes_at, rest_at, base, total, row, step, ahead, size,
    rows, factors, f_at, f_stride, batch, out, out_at,
):  # fmt: skip
    """out[out_at + b · size + k] += Σ_r factors[f_at + b · f_stride + r] · row r [k] for b < batch, k < size: chains in
    the order of r < rows, of which there are 1 .. TILE_NEURONS."""
    require_flat(arena, words, factors, out)
    number = types.int64
    signature = types.void(arena, words, *TILE, number, factors, number, number, number, out, number)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        size, count, (f_at, f_stride, batch), out_at = args[9], args[10], args[12:15], args[16]
        factors, out = arrays_of(context, builder, signature, args, (11, 15))

        def emit(rows: int) -> None:
            code, tile_rows = _open_tile(context, builder, signature, args, rows)

            def use(k: ir.Value, halves: Sequence[Vectors], held: Vectors) -> Vectors:
                vectors = [widen_halves(builder, row) for row in halves]

                def add(b: ir.Value, held: Vectors) -> Vectors:
                    factor_at = builder.add(f_at, builder.mul(b, f_stride))
                    spread = [code.splat(factors.load(code.plus(factor_at, I64(r))), VECTOR) for r in range(rows)]
                    first = builder.add(builder.add(out_at, builder.mul(b, size)), k)
                    for i in range(VECTORS):
                        place = builder.add(first, I64(i * LANES))
                        total = out.load(place, LANES)
                        for factor, row in zip(spread, vectors, strict=True):
                            total = code.fma(factor, row[i], total)
                        out.store(total, place, LANES)
                    return held

                code.loop(I64(0), batch, 1, [], add)
                return held

            each_block(code, tile_rows, size, [], use)

        each_count(builder, count, range(1, TILE_NEURONS + 1), emit)
        return context.get_dummy_value()

    return signature, codegen
