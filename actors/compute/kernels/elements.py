"""Weights as they are stored → f32, in registers. The array's dtype names the element: u16 = bf16, i16 = f16, f32 =
f32."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

STORED_DTYPES: Mapping[str, npt.DTypeLike] = MappingProxyType({"bf16": np.uint16, "f16": np.int16, "f32": np.float32})
F16_SCALE = 2.0**112  # shifts f16's exponent bias of 15 to f32's 127; right for subnormals too
FLOAT, I16, I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)


def llvm_element(stored: types.Type) -> ir.Type:
    """What one stored element is in memory. Raises TypeError for what is no element of a table."""
    if stored == types.float32:
        return FLOAT
    if stored in (types.uint16, types.int16):
        return I16
    if stored == types.uint32:
        return I32
    raise TypeError(f"{stored} is none of the stored types {', '.join(STORED_DTYPES)}")


def widen(builder: ir.IRBuilder, values: ir.Value, stored: types.Type) -> ir.Value:
    """Code that turns a scalar or vector of stored elements into f32, exactly (f16: finite values)."""
    if stored == types.float32:
        return values
    lanes = values.type.count if isinstance(values.type, ir.VectorType) else 0

    def like(scalar: ir.Type) -> ir.Type:
        return ir.VectorType(scalar, lanes) if lanes else scalar

    def constant(scalar: ir.Type, value: float) -> ir.Constant:
        return ir.Constant(like(scalar), [value] * lanes if lanes else value)

    bits = builder.zext(values, like(I32))
    if stored == types.uint16:
        return builder.bitcast(builder.shl(bits, constant(I32, 16)), like(FLOAT))
    # By shifts and not by `fpext`, which becomes a call per element where the CPU has no instruction for it.
    sign = builder.shl(builder.and_(bits, constant(I32, 0x8000)), constant(I32, 16))
    magnitude = builder.shl(builder.and_(bits, constant(I32, 0x7FFF)), constant(I32, 13))
    scaled = builder.fmul(builder.bitcast(magnitude, like(FLOAT)), constant(FLOAT, F16_SCALE))
    return builder.bitcast(builder.or_(builder.bitcast(scaled, like(I32)), sign), like(FLOAT))


def widen_pairs(builder: ir.IRBuilder, pairs: ir.Value) -> tuple[ir.Value, ir.Value]:
    """A vector of N u32 that holds 2 N weights as bf16, weight j in the low and weight N + j in the high half of lane
    j → the first and the second N as f32. Cheaper than widening them in their order."""
    kind = pairs.type
    shift, mask = (ir.Constant(kind, [value] * kind.count) for value in (16, 0xFFFF0000))
    floats = ir.VectorType(FLOAT, kind.count)
    return builder.bitcast(builder.shl(pairs, shift), floats), builder.bitcast(builder.and_(pairs, mask), floats)


def widen_array(stored: npt.NDArray[np.uint8], element: str) -> npt.NDArray[np.float32]:
    """Stored bytes as an f32 array, exactly; a copy. For vectors and single rows, outside kernels."""
    if element == "bf16":
        return (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if element == "f16":
        return stored.view(np.float16).astype(np.float32)
    return stored.view(np.float32).copy()
