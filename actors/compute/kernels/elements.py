"""Weights as they are stored → f32, in registers. The array's dtype names the element: u16 = bf16, i16 = f16, f32 =
f32."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

STORED_DTYPES: Mapping[str, npt.DTypeLike] = MappingProxyType({"bf16": np.uint16, "f16": np.int16, "f32": np.float32})
F16_SCALE = np.float32(2.0**112)  # shifts f16's exponent bias of 15 to f32's 127; right for subnormals too


@intrinsic
def bits_to_f32(typing_context, bits):  # type: ignore[no-untyped-def]
    """Reinterpret u32 as f32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def f32_to_bits(typing_context, value):  # type: ignore[no-untyped-def]
    """Reinterpret f32 as u32."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


def widen(stored):  # type: ignore[no-untyped-def]
    """One stored element as f32, exactly."""
    raise NotImplementedError("only inside kernels")


@overload(widen)
def _widen(stored):  # type: ignore[no-untyped-def]  # numba compares this signature with the ones below
    if stored == types.uint16:
        return lambda stored: bits_to_f32(np.uint32(stored) << np.uint32(16))
    if stored == types.int16:

        def f16(stored):  # type: ignore[no-untyped-def]
            bits = np.uint32(np.uint16(stored))
            magnitude = bits_to_f32((bits & np.uint32(0x7FFF)) << np.uint32(13)) * F16_SCALE
            return bits_to_f32(f32_to_bits(magnitude) | ((bits & np.uint32(0x8000)) << np.uint32(16)))

        return f16
    if stored == types.float32:
        return lambda stored: stored
    return None


def widen_array(stored: npt.NDArray[np.uint8], element: str) -> npt.NDArray[np.float32]:
    """Stored bytes as an f32 array, exactly; a copy. For vectors and single rows, outside kernels."""
    if element == "bf16":
        return (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if element == "f16":
        return stored.view(np.float16).astype(np.float32)
    return stored.view(np.float32).copy()
