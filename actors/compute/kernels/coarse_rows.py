"""Rows of plane 0 alone as LLVM vectors: a byte of memory per weight, and no other read.

The array's dtype names the codec. u8, codes of bf16-planes: the bf16 with that code and lower mantissa 8, half of what
plane 1 could add; codes that are zero but for the sign are zero (the exact weight is zero or hardly more than the
extent's least power of two), and exceptions have the codes that codecs/bf16_codes.py gave them: the largest one for
those above the extent's exponents, zero for those below. i8, upper bytes of fp16-planes: the f16 with lower byte 0x80.

Sums are not those of exact kernels: what is coarse need not have their bits, so four chains are open at a time instead
of one, codes become f32 with a fixed exponent base (what is left of it scales the sum, or the factor of a row), and
what a block is multiplied with or added to lies in *lane order*, that of the codes' lanes. Sums depend on nothing but
the row.
"""

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.elements import F16_SCALE, FLOAT, I32, widen_pairs
from tidemill.actors.compute.kernels.llvm_code import I64, LANES, VECTOR, Code, arrays_of, require_flat
from tidemill.actors.compute.kernels.planes import BLOCK, CODES, HALVES, PAIRS, Vectors
from tidemill.actors.compute.kernels.tiles import each_count

BYTE = ir.IntType(8)
VECTORS = BLOCK // LANES  # of a block
WORDS = ir.VectorType(I32, LANES)
FLOATS = ir.VectorType(FLOAT, BLOCK)
MIDDLE_BYTE = 0x80
SIGN_AND_CODE = 0x87F0  # of a bf16 whose sign is spread over four bits
OPEN_EXPONENT = 0x4008  # bf16: exponent 128 and the middle of a lower mantissa
OPEN_BASE = 128
MOST_ROWS = 4  # that are added at once
ROW = [types.int64] * 4  # at, base, stride, ahead


def _constant(kind: ir.VectorType, value: int | float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


class CoarseRow:
    """A run of weights that begins at byte `at` of plane 0, block by block; what lies at `ahead` is fetched
    meanwhile."""

    def __init__(self, code: Code, data: ir.Value, stored: types.Type, at: ir.Value, ahead: ir.Value) -> None:
        self._code = code
        self._builder = code.builder
        self._data = data
        self._at = at
        self._ahead = ahead
        self._is_f16 = stored == types.int8

    def vectors(self, k: ir.Value) -> Vectors:
        """Weights k .. k + BLOCK as VECTORS vectors of f32, in lane order, over `scale_of`."""
        start = self._builder.add(self._at, k)
        self._code.prefetch(self._builder.gep(self._data, [self._builder.add(self._ahead, k)]))
        if self._is_f16:
            return [self._upper_bytes(self._builder.add(start, I64(i * LANES))) for i in range(VECTORS)]
        return self._codes(start)

    def _load(self, at: ir.Value, kind: ir.VectorType) -> ir.Value:
        builder = self._builder
        value = builder.load(builder.bitcast(builder.gep(self._data, [at]), kind.as_pointer()), typ=kind)
        value.align = 1
        return value

    def _codes(self, at: ir.Value) -> Vectors:
        """The code in a lane's upper byte moves down into its place under a spread sign; the one in its lower byte is
        first moved there."""
        builder, found = self._builder, []
        codes = builder.bitcast(self._load(at, CODES), HALVES)
        for lanes, magnitude in ((builder.shl(codes, _constant(HALVES, 8)), 0x7F), (codes, 0x7F00)):
            moved = builder.ashr(lanes, _constant(HALVES, 4))
            weights = builder.or_(
                builder.and_(moved, _constant(HALVES, SIGN_AND_CODE)), _constant(HALVES, OPEN_EXPONENT)
            )
            is_zero = builder.icmp_unsigned(
                "==", builder.and_(codes, _constant(HALVES, magnitude)), _constant(HALVES, 0)
            )
            found.append(builder.select(is_zero, _constant(HALVES, 0), weights))
        return [vector for half in found for vector in widen_pairs(builder, builder.bitcast(half, PAIRS))]

    def _upper_bytes(self, at: ir.Value) -> ir.Value:
        """As `elements.widen` of f16, in fewer steps: the sign, spread by the extension, lies where f32 has it."""
        builder = self._builder
        bits = builder.shl(builder.sext(self._load(at, ir.VectorType(BYTE, LANES)), WORDS), _constant(WORDS, 21))
        masked = builder.and_(bits, _constant(WORDS, 0x8FE00000))
        small = builder.or_(masked, _constant(WORDS, MIDDLE_BYTE << 13))
        return builder.fmul(builder.bitcast(small, VECTOR), _constant(VECTOR, F16_SCALE))


def _scale_of(builder: ir.IRBuilder, stored: types.Type, base: ir.Value) -> ir.Value:
    """What a row's sums are still to be multiplied with: 2^(base - OPEN_BASE), of codes."""
    if stored == types.int8:
        return FLOAT(1.0)
    # Its exponent is at most 112; below -126 it would be subnormal, and such weights count for nothing.
    exponent = builder.sub(builder.trunc(base, I32), I32(OPEN_BASE - 127))
    positive = builder.select(builder.icmp_signed(">", exponent, I32(0)), exponent, I32(0))
    return builder.bitcast(builder.shl(positive, I32(23)), FLOAT)


def _lane_order(stored: types.Type) -> list[int]:
    """Which weight of a block is in each lane of its vectors, one vector after the other."""
    if stored == types.int8:
        return list(range(BLOCK))
    # Byte 16 q + 8 h + 2 i + p of the codes is weight 32 h + 16 p + 4 q + i (codecs/bf16_codes.py).
    weights = [32 * (b // 8 % 2) + 16 * (b % 2) + 4 * (b // 16) + b // 2 % 4 for b in range(BLOCK)]
    return [weights[4 * lane + 2 * second + upper] for upper in (0, 1) for second in (0, 1) for lane in range(LANES)]


def _rows(context, builder, signature, args, count: int):  # type: ignore[no-untyped-def]
    """Of an intrinsic whose arguments begin with the arena and ROW."""
    code, data = Code(builder), context.make_array(signature.args[0])(context, builder, args[0]).data
    at, _, stride, ahead = args[1:5]
    places = [code.plus(at, stride, r) for r in range(count)]
    stored = signature.args[0].dtype
    return code, [CoarseRow(code, data, stored, place, builder.add(place, ahead)) for place in places]


def _require_bytes(*arrays: types.Type) -> None:
    require_flat(*arrays)
    if arrays[0].dtype not in (types.uint8, types.int8):
        raise TypeError(f"plane 0 is bytes, u8 or i8, not {arrays[0].dtype}")


def _reorder(to_lanes: bool):  # type: ignore[no-untyped-def]
    """out[out_at ...] = x[x_at ...] in lane order, or from it; `size` is a multiple of BLOCK. out may be x."""

    @intrinsic
    def reorder(typing_context, arena, x, x_at, out, out_at, size):  # type: ignore[no-untyped-def]
        _require_bytes(arena, x, out)
        signature = types.void(arena, x, types.int64, out, types.int64, types.int64)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            source, target = arrays_of(context, builder, signature, args, (1, 3))
            order = _lane_order(signature.args[0].dtype)
            picked = order if to_lanes else [order.index(weight) for weight in range(BLOCK)]
            lanes = ir.Constant(ir.VectorType(I32, BLOCK), picked)

            def body(k: ir.Value, held: Vectors) -> Vectors:
                block = source.load(builder.add(args[2], k), BLOCK)
                target.store(builder.shuffle_vector(block, block, lanes), builder.add(args[4], k), BLOCK)
                return held

            Code(builder).loop(I64(0), args[5], BLOCK, [], body)
            return context.get_dummy_value()

        return signature, codegen

    return reorder


def _dot_rows(rows: int):  # type: ignore[no-untyped-def]
    """out[out_at + r] = Σ_k row r [k] · x[k] for r < rows and k < size, a multiple of BLOCK; row r begins at byte at +
    r · stride, x is in lane order."""

    @intrinsic
    def dot(typing_context, arena, at, base, stride, ahead, size, x, out, out_at):  # type: ignore[no-untyped-def]
        _require_bytes(arena, x, out)
        number = types.int64
        signature = types.void(arena, *ROW, number, x, out, number)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            code, weights = _rows(context, builder, signature, args, rows)
            x, out = arrays_of(context, builder, signature, args, (6, 7))
            scale = _scale_of(builder, signature.args[0].dtype, args[2])

            def body(k: ir.Value, sums: Sequence[ir.Value]) -> Sequence[ir.Value]:
                inputs = [x.load(builder.add(k, I64(i * LANES)), LANES) for i in range(VECTORS)]
                vectors = [vector for row in weights for vector in row.vectors(k)]
                return [code.fma(vector, inputs[i % VECTORS], sums[i]) for i, vector in enumerate(vectors)]

            zero = ir.Constant(VECTOR, [0.0] * LANES)
            sums = code.loop(I64(0), args[5], BLOCK, [zero] * (VECTORS * rows), body)
            for r in range(rows):
                a, b, c, d = sums[VECTORS * r : VECTORS * (r + 1)]
                total = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
                scaled = builder.fmul(code.fold(total, builder.fadd), scale)
                out.store(scaled, builder.add(args[8], I64(r)))
            return context.get_dummy_value()

        return signature, codegen

    return dot


@intrinsic
def add_coarse(typing_context, arena, at, base, stride, ahead, size, rows, factors, f_at, out, out_at):  # type: ignore[no-untyped-def]
    """out[out_at + k] += factors[f_at + r] · row r [k] for r < rows in order, which are 1 .. MOST_ROWS, and k < size, a
    multiple of BLOCK; row r begins at byte at + r · stride, out is in lane order."""
    _require_bytes(arena, factors, out)
    number = types.int64
    signature = types.void(arena, *ROW, number, number, factors, number, out, number)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        factors, out = arrays_of(context, builder, signature, args, (7, 9))
        scale = _scale_of(builder, signature.args[0].dtype, args[2])

        def emit(rows: int) -> None:
            code, weights = _rows(context, builder, signature, args, rows)
            loaded = [factors.load(builder.add(args[8], I64(r))) for r in range(rows)]
            spread = [code.splat(builder.fmul(factor, scale), VECTOR) for factor in loaded]

            def body(k: ir.Value, held: Vectors) -> Vectors:
                places = [builder.add(builder.add(args[10], k), I64(i * LANES)) for i in range(VECTORS)]
                sums = [out.load(place, LANES) for place in places]
                for row, factor in zip(weights, spread, strict=True):
                    sums = [code.fma(factor, vector, at) for vector, at in zip(row.vectors(k), sums, strict=True)]
                for value, place in zip(sums, places, strict=True):
                    out.store(value, place, LANES)
                return held

            code.loop(I64(0), args[5], BLOCK, [], body)

        each_count(builder, args[6], range(1, MOST_ROWS + 1), emit)
        return context.get_dummy_value()

    return signature, codegen


to_lanes = _reorder(True)
from_lanes = _reorder(False)
dot_row_coarse = _dot_rows(1)
dot_two_coarse = _dot_rows(2)
dot_four_coarse = _dot_rows(4)
