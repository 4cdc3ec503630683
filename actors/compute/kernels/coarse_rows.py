"""Rows of plane 0 alone as LLVM vectors: a byte of memory per weight, and no other read.

The array's dtype names the codec. u8, codes of bf16-planes: the bf16 with that code and lower mantissa 8, half of what
plane 1 could add; codes that are zero but for the sign are zero (the exact weight is zero or hardly more than the
extent's least power of two), and exceptions have the codes that codecs/bf16_codes.py gave them: the largest one for
those above the extent's exponents, zero for those below. i8, upper bytes of fp16-planes: the f16 with lower byte 0x80.

Sums are not those of exact kernels: what is coarse need not have their bits, so four chains are open at a time instead
of one. They depend on nothing but the row.
"""

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.elements import F16_SCALE, I32
from tidemill.actors.compute.kernels.llvm_code import I64, LANES, VECTOR, Code, arrays_of, require_flat
from tidemill.actors.compute.kernels.planes import AHEAD_BYTES, BLOCK, CODES, HALVES, Vectors, interleave, widen_halves

BYTE = ir.IntType(8)
VECTORS = BLOCK // LANES  # of a block
WORDS = ir.VectorType(I32, LANES)
MIDDLE_NIBBLE = 8
MIDDLE_BYTE = 0x80


def _constant(kind: ir.VectorType, value: int | float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


class CoarseRow:
    """A run of weights that begins at byte `at` of plane 0, block by block."""

    def __init__(self, code: Code, data: ir.Value, stored: types.Type, at: ir.Value, base: ir.Value) -> None:
        self._code = code
        self._builder = code.builder
        self._data = data
        self._at = at
        self._is_f16 = stored == types.int8
        self._base = code.splat(code.builder.trunc(code.builder.lshr(base, I64(1)), BYTE), CODES)

    def vectors(self, k: ir.Value) -> Vectors:
        """Weights k .. k + BLOCK as VECTORS vectors of f32, in order; meanwhile what is wanted later is fetched."""
        start = self._builder.add(self._at, k)
        self._code.prefetch(self._builder.gep(self._data, [self._builder.add(start, I64(AHEAD_BYTES))]))
        if self._is_f16:
            return [self._upper_bytes(self._builder.add(start, I64(i * LANES))) for i in range(VECTORS)]
        return widen_halves(self._builder, self._codes(start))

    def _load(self, at: ir.Value, kind: ir.VectorType) -> ir.Value:
        builder = self._builder
        value = builder.load(builder.bitcast(builder.gep(self._data, [at]), kind.as_pointer()), typ=kind)
        value.align = 1
        return value

    def _codes(self, at: ir.Value) -> Vectors:
        """As `planes.Planes.halves`, with MIDDLE_NIBBLE for every lower mantissa."""
        builder, codes = self._builder, self._load(at, CODES)
        pairs = builder.bitcast(codes, HALVES)
        moved, shifted = (
            builder.bitcast(shift(pairs, _constant(HALVES, 4)), CODES) for shift in (builder.shl, builder.lshr)
        )
        magnitude = builder.and_(codes, _constant(CODES, 0x7F))
        is_zero = builder.icmp_unsigned("==", magnitude, _constant(CODES, 0))
        zero = _constant(CODES, 0)
        low = builder.or_(builder.and_(moved, _constant(CODES, 0xF0)), _constant(CODES, MIDDLE_NIBBLE))
        exponents = builder.add(builder.and_(shifted, _constant(CODES, 0x07)), self._base)
        low, exponents = (builder.select(is_zero, zero, value) for value in (low, exponents))
        return interleave(builder, low, builder.or_(exponents, builder.and_(codes, _constant(CODES, 0x80))))

    def _upper_bytes(self, at: ir.Value) -> ir.Value:
        """As `elements.widen` of f16, in fewer steps: the sign, spread by the extension, lies where f32 has it."""
        builder = self._builder
        bits = builder.shl(builder.sext(self._load(at, ir.VectorType(BYTE, LANES)), WORDS), _constant(WORDS, 21))
        masked = builder.and_(bits, _constant(WORDS, 0x8FE00000))
        small = builder.or_(masked, _constant(WORDS, MIDDLE_BYTE << 13))
        return builder.fmul(builder.bitcast(small, VECTOR), _constant(VECTOR, F16_SCALE))


def _rows(context, builder, signature, args, starts):  # type: ignore[no-untyped-def]
    """Of an intrinsic whose first argument is the arena and whose third is the exponent base."""
    code, data = Code(builder), context.make_array(signature.args[0])(context, builder, args[0]).data
    return code, [CoarseRow(code, data, signature.args[0].dtype, at, args[2]) for at in starts]


def _require_bytes(*arrays: types.Type) -> None:
    require_flat(*arrays)
    if arrays[0].dtype not in (types.uint8, types.int8):
        raise TypeError(f"plane 0 is bytes, u8 or i8, not {arrays[0].dtype}")


def _dot_rows(rows: int):  # type: ignore[no-untyped-def]
    """out[out_at + r] = Σ_k row r [k] · x[k] for k < size, a multiple of BLOCK; row r begins at byte at + r · size."""

    @intrinsic
    def dot(typing_context, arena, at, base, x, size, out, out_at):  # type: ignore[no-untyped-def]
        _require_bytes(arena, x, out)
        number = types.int64
        signature = types.void(arena, number, number, x, number, out, number)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            starts = [builder.add(args[1], builder.mul(args[4], I64(r))) for r in range(rows)]
            code, weights = _rows(context, builder, signature, args, starts)
            x, out = arrays_of(context, builder, signature, args, (3, 5))

            def body(k: ir.Value, sums: Sequence[ir.Value]) -> Sequence[ir.Value]:
                inputs = [x.load(builder.add(k, I64(i * LANES)), LANES) for i in range(VECTORS)]
                vectors = [vector for row in weights for vector in row.vectors(k)]
                return [code.fma(vector, inputs[i % VECTORS], sums[i]) for i, vector in enumerate(vectors)]

            zero = ir.Constant(VECTOR, [0.0] * LANES)
            sums = code.loop(I64(0), args[4], BLOCK, [zero] * (VECTORS * rows), body)
            for r in range(rows):
                a, b, c, d = sums[VECTORS * r : VECTORS * (r + 1)]
                total = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
                out.store(code.fold(total, builder.fadd), builder.add(args[6], I64(r)))
            return context.get_dummy_value()

        return signature, codegen

    return dot


def _add_rows(rows: int):  # type: ignore[no-untyped-def]
    """out[out_at + k] += factors[f_at + r] · row r [k] for r < rows in order, k < size, a multiple of BLOCK; row r
    begins at byte at + r · stride."""

    @intrinsic
    def add(typing_context, arena, at, base, stride, factors, f_at, out, out_at, size):  # type: ignore[no-untyped-def]
        _require_bytes(arena, factors, out)
        number = types.int64
        signature = types.void(arena, number, number, number, factors, number, out, number, number)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            starts = [builder.add(args[1], builder.mul(args[3], I64(r))) for r in range(rows)]
            code, weights = _rows(context, builder, signature, args, starts)
            factors, out = arrays_of(context, builder, signature, args, (4, 6))
            spread = [code.splat(factors.load(builder.add(args[5], I64(r))), VECTOR) for r in range(rows)]

            def body(k: ir.Value, held: Sequence[ir.Value]) -> Sequence[ir.Value]:
                places = [builder.add(builder.add(args[7], k), I64(i * LANES)) for i in range(VECTORS)]
                sums = [out.load(place, LANES) for place in places]
                for row, factor in zip(weights, spread, strict=True):
                    sums = [code.fma(factor, vector, at) for vector, at in zip(row.vectors(k), sums, strict=True)]
                for value, place in zip(sums, places, strict=True):
                    out.store(value, place, LANES)
                return held

            code.loop(I64(0), args[8], BLOCK, [], body)
            return context.get_dummy_value()

        return signature, codegen

    return add


dot_row_coarse = _dot_rows(1)
dot_two_coarse = _dot_rows(2)
add_row_coarse = _add_rows(1)
add_two_coarse = _add_rows(2)
