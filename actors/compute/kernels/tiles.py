"""The two loops that all arithmetic on weights, keys and values is made of, written as LLVM vectors.

Every output's sum has one order, given here and not by a compiler: `LANES` partial sums, each a chain of fused
multiply-adds, then a tree over the lanes. How many rows and positions a tile holds only decides what shares a register;
so any batch, any tiling, any thread count and any CPU gives the same bits.

A tile is the code of one inner loop over `rows` x `batch` sums. Arrays are C-contiguous and addressed flat, in
elements.
"""

from collections.abc import Callable, Sequence

import llvmlite.binding
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.llvm_code import (
    I64,
    LANES,
    LINE_BYTES,
    VECTOR,
    Array,
    Code,
    arrays_of,
    require_flat,
)


def _has_wide_registers() -> bool:
    """32 registers of 16 floats. Where registers are fewer or smaller, larger tiles would spill."""
    features = config.CPU_FEATURES
    if features is None:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
    return "+avx512f" in features.split(",")


TILE_ROWS, TILE_BATCH = (6, 4) if _has_wide_registers() else (2, 2)
TILE_ROWS_OF_PAIRS = 4 if _has_wide_registers() else 2  # two vectors of inputs take the registers of two rows
TILE_VECTORS = 4 if _has_wide_registers() else 2
TILE_COLUMNS = TILE_VECTORS * LANES


def _emit_dots(
    code: Code, weights: Array, row_at: Sequence[ir.Value], x: Array, batch_at: Sequence[ir.Value], size: ir.Value,
    ahead_at: ir.Value | None = None,
) -> Sequence[ir.Value]:  # fmt: skip
    """The sums of every row with every position, rows outermost; meanwhile as much as was read, and the column between
    two pairs of rows, is fetched from `ahead_at` on."""
    builder, batch = code.builder, len(batch_at)
    lines = -(-len(row_at) * LANES * weights.bytes * 3 // (2 * LINE_BYTES))

    def products(k: ir.Value, sums: Sequence[ir.Value]) -> Sequence[ir.Value]:
        if ahead_at is not None:
            first = builder.add(ahead_at, builder.mul(k, I64(lines * LINE_BYTES // weights.bytes // LANES)))
            for line in range(lines):
                code.prefetch(weights.pointer(builder.add(first, I64(line * LINE_BYTES // weights.bytes))))
        loaded = [weights.vectors(builder.add(place, k)) for place in row_at]
        for i in range(len(loaded[0])):
            inputs = [x.load(builder.add(builder.add(place, k), I64(i * LANES)), LANES) for place in batch_at]
            sums = [
                code.fma(row[i], inputs[b], sums[r * batch + b]) for r, row in enumerate(loaded) for b in range(batch)
            ]
        return sums

    def remainder(k: ir.Value, sums: Sequence[ir.Value]) -> Sequence[ir.Value]:
        inputs = [x.load(builder.add(place, k)) for place in batch_at]
        loaded = [weights.load(builder.add(place, k)) for place in row_at]
        return [code.fma(row, inputs[b], sums[r * batch + b]) for r, row in enumerate(loaded) for b in range(batch)]

    step = 2 * LANES if weights.holds_pairs else LANES
    whole = builder.and_(size, I64(-step))
    zeros = [ir.Constant(VECTOR, [0.0] * LANES)] * (len(row_at) * batch)
    vectors = code.loop(I64(0), whole, step, zeros, products)
    sums = [code.fold(vector, builder.fadd) for vector in vectors]
    return sums if weights.holds_pairs else code.loop(whole, size, 1, sums, remainder)


def each_count(builder: ir.IRBuilder, count: ir.Value, sizes: Sequence[int], emit: Callable[[int], None]) -> None:
    """Code for a count that is known only when it runs: a way for each size; one between two goes the larger's way."""
    after = builder.append_basic_block("count.end")
    choice = builder.switch(count, after)
    least = 1
    for size in sizes:
        way = builder.append_basic_block(f"count.{size}")
        for n in range(least, size + 1):
            choice.add_case(I64(n), way)
        builder.position_at_end(way)
        emit(size)
        builder.branch(after)
        least = size + 1
    builder.position_at_end(after)


def _dot_tile(rows: int, rows_of_pairs: int):  # type: ignore[no-untyped-def]
    """out[out_at + b·out_stride + r] = Σ_k weights[row r][k] · x[x_at + b·size + k] for r < rows, b < batch, of which
    there are 1 .. TILE_BATCH.

    Row r begins at `at + (r // 2)·pair_stride + (r % 2)·size`: rows lie in adjacent pairs (gate and up of a neuron).
    One row alone streams fastest without fetching ahead.
    """

    @intrinsic
    def tile(typing_context, weights, at, pair_stride, ahead_at, x, x_at, size, batch, out, out_at, out_stride):  # type: ignore[no-untyped-def]
        require_flat(weights, x, out)
        number = types.int64
        signature = types.void(weights, number, number, number, x, number, number, number, out, number, number)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            _, at, pair_stride, ahead_at, _, x_at, size, count, _, out_at, out_stride = args
            weights, x, out = arrays_of(context, builder, signature, args, (0, 4, 8))
            code = Code(builder)
            tall = rows_of_pairs if weights.holds_pairs else rows
            row_at = [code.plus(code.plus(at, pair_stride, r // 2), size, r % 2) for r in range(tall)]
            ahead = ahead_at if tall > 1 and not weights.holds_pairs else None

            def emit(batch: int) -> None:
                batch_at = [code.plus(x_at, size, b) for b in range(batch)]
                sums = _emit_dots(code, weights, row_at, x, batch_at, size, ahead)
                for r in range(tall):
                    for b in range(batch):
                        out.store(sums[r * batch + b], code.plus(code.plus(out_at, out_stride, b), r))

            each_count(builder, count, range(1, TILE_BATCH + 1), emit)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _add_tile(vectors: int, lanes: int):  # type: ignore[no-untyped-def]
    """out[out_at + b·out_stride + c] += Σ_i factors[f_at + b·f_stride + i] · weights[at + i·stride + c] for b < batch
    (1 .. TILE_BATCH) and c < vectors · lanes: chains of fused multiply-adds in the order of i < rows, on top of what is
    there."""

    @intrinsic
    def tile(typing_context, weights, at, stride, rows, factors, f_at, f_stride, batch, out, out_at, out_stride):  # type: ignore[no-untyped-def]
        require_flat(weights, factors, out)
        number = types.int64
        signature = types.void(
            weights, number, number, number, factors, number, number, number, out, number, number
        )  # fmt: skip

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            _, at, stride, rows, _, f_at, f_stride, count, _, out_at, out_stride = args
            weights, factors, out = arrays_of(context, builder, signature, args, (0, 4, 8))
            code = Code(builder)

            def emit(batch: int) -> None:
                factors_at = [code.plus(f_at, f_stride, b) for b in range(batch)]
                places = [
                    code.plus(code.plus(out_at, out_stride, b), lanes, v) for b in range(batch) for v in range(vectors)
                ]

                def body(i: ir.Value, sums: Sequence[ir.Value]) -> Sequence[ir.Value]:
                    row = _row_of_tile(code, weights, builder.add(at, builder.mul(i, stride)), vectors, lanes)
                    updated = []
                    for b, factor_at in enumerate(factors_at):
                        factor = factors.load(builder.add(factor_at, i))
                        spread = code.splat(factor, VECTOR) if lanes > 1 else factor
                        updated += [code.fma(spread, row[v], sums[b * vectors + v]) for v in range(vectors)]
                    return updated

                sums = code.loop(I64(0), rows, 1, [out.load(place, lanes) for place in places], body)
                for value, place in zip(sums, places, strict=True):
                    out.store(value, place, lanes)

            each_count(builder, count, range(1, TILE_BATCH + 1), emit)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _row_of_tile(code: Code, weights: Array, row_at: ir.Value, vectors: int, lanes: int) -> Sequence[ir.Value]:
    if lanes == 1:
        return [weights.load(code.plus(row_at, lanes, v)) for v in range(vectors)]
    step = 2 if weights.holds_pairs else 1
    return [vector for v in range(0, vectors, step) for vector in weights.vectors(code.plus(row_at, lanes, v))]


@intrinsic
def dot(typing_context, a, a_at, b, b_at, size):  # type: ignore[no-untyped-def]
    """Σ_k a[a_at + k] · b[b_at + k]."""
    require_flat(a, b)
    signature = types.float32(a, types.int64, b, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        left, right = arrays_of(context, builder, signature, args, (0, 2))
        return _emit_dots(Code(builder), left, [args[1]], right, [args[3]], args[4])[0]

    return signature, codegen


@intrinsic
def highest(typing_context, values, at, size):  # type: ignore[no-untyped-def]
    """The largest of `size` values, a multiple of LANES; NaNs are passed over."""
    require_flat(values)
    signature = types.float32(values, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        (values,) = arrays_of(context, builder, signature, args, (0,))
        code = Code(builder)

        def body(k: ir.Value, found: Sequence[ir.Value]) -> Sequence[ir.Value]:
            return [code.larger(values.load(builder.add(args[1], k), LANES), found[0])]

        lowest = ir.Constant(VECTOR, [float("-inf")] * LANES)
        (vector,) = code.loop(I64(0), args[2], LANES, [lowest], body)
        return code.fold(vector, code.larger)

    return signature, codegen


def _known(choose: Callable[[types.Type], ir.Constant], kind: types.Type):  # type: ignore[no-untyped-def]
    """A property of an array's element, known when compiled."""

    @intrinsic
    def known(typing_context, weights):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return choose(signature.args[0].dtype)

        return kind(weights), codegen

    return known


# Whether an array holds pairs of bf16, and the rows of a tile of `dot_tall`.
holds_pairs = _known(lambda stored: ir.IntType(1)(int(stored == types.uint32)), types.boolean)
tall_rows = _known(lambda stored: I64(TILE_ROWS_OF_PAIRS if stored == types.uint32 else TILE_ROWS), types.int64)
dot_tall = _dot_tile(TILE_ROWS, TILE_ROWS_OF_PAIRS)
dot_single = _dot_tile(1, 1)
add_strip = _add_tile(TILE_VECTORS, LANES)
add_single = _add_tile(1, 1)
