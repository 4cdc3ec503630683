"""Rows of planes joined into scratch: all positions of a large batch then take them from there."""

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.llvm_code import I64, LANES, Code, require_flat
from tidemill.actors.compute.kernels.plane_blocks import Exceptions, Row, each_block
from tidemill.actors.compute.kernels.planes import HALF, HALVES, Planes, Vectors, load_bytes, splat


def _open_row(context, builder, signature, args):  # type: ignore[no-untyped-def]
    """The parts of a row intrinsic's first seven arguments."""
    code = Code(builder)
    data, words = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 1))
    planes = Planes(code, data, args[2], args[3], args[4])
    return code, [Row(planes, Exceptions(builder, words, args[5], args[6]))]


ROW = [types.int64] * 5  # codes_at, rest_at, base, first exception, last


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
            builder.store(builder.or_(builder.shl(upper, splat(HALVES, 8)), lower), place).align = 2
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
        code, rows = _open_row(context, builder, signature, args)
        out = context.make_array(signature.args[7])(context, builder, args[7]).data
        start = builder.gep(out, [builder.lshr(args[8], I64(1))])

        def use(k: ir.Value, halves: Sequence[Vectors], held: Vectors) -> Vectors:
            for i, half in enumerate(halves[0]):
                place = builder.gep(start, [builder.add(builder.lshr(k, I64(1)), I64(i * LANES))])
                builder.store(half, builder.bitcast(place, HALVES.as_pointer())).align = 4
            return held

        each_block(code, rows, args[9], [], use)
        return context.get_dummy_value()

    return signature, codegen
