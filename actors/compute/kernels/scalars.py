"""Functions of one float, without branches and calls, so that loops over them become vectors, with the same bits."""

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.elements import FLOAT, I32

# exp(x) = 2^n · exp(r) with n = round(x / ln 2) and r = x - n·ln 2, subtracted in two parts (Cody and Waite), and
# exp(r) by its Taylor polynomial of degree 7: |r| <= ln 2 / 2 leaves 0.35^8 / 8! < 2⁻²⁷, below the rounding of f32.
LOWEST, HIGHEST = -87.0, 88.0  # 2^n stays a normal float
ROUNDER = 1.5 * 2.0**23  # added, it leaves the nearest integer in the low bits
LN2_HIGH = 0.693145751953125  # 15 bits, so n · LN2_HIGH is exact
LN2_LOW = math.log(2.0) - LN2_HIGH
TAYLOR = tuple(1.0 / math.factorial(n) for n in range(7, -1, -1))

GELU_A = np.float32(2.0 * math.sqrt(2.0 / math.pi))
GELU_B = np.float32(0.044715)
ONE = np.float32(1.0)


@intrinsic
def exp(typing_context, x):  # type: ignore[no-untyped-def]
    """e^x, f32, within 2 units in the last place on [-87, 88]; beyond an end, the value there. NaN gives NaN."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(FLOAT, [FLOAT] * 3), "llvm.fma.f32")
        (value,) = args
        clamped = value
        for bound, beyond in ((LOWEST, "<"), (HIGHEST, ">")):
            outside = builder.fcmp_ordered(beyond, clamped, FLOAT(bound))
            clamped = builder.select(outside, FLOAT(bound), clamped)
        shifted = builder.call(fma, [clamped, FLOAT(1.0 / math.log(2.0)), FLOAT(ROUNDER)])
        whole = builder.fsub(shifted, FLOAT(ROUNDER))
        rest = builder.call(fma, [whole, FLOAT(-LN2_HIGH), clamped])
        rest = builder.call(fma, [whole, FLOAT(-LN2_LOW), rest])
        power: ir.Value = FLOAT(TAYLOR[0])
        for coefficient in TAYLOR[1:]:
            power = builder.call(fma, [power, rest, FLOAT(coefficient)])
        exponent = builder.shl(builder.bitcast(shifted, I32), I32(23))
        scaled = builder.bitcast(builder.add(builder.bitcast(power, I32), exponent), FLOAT)
        return builder.select(builder.fcmp_unordered("uno", value, value), value, scaled)

    return types.float32(types.float32), codegen


@numba.njit(cache=True)
def silu(x: np.float32) -> np.float32:
    return x / (ONE + exp(-x))  # type: ignore[no-any-return]


@numba.njit(cache=True)
def gelu_tanh(x: np.float32) -> np.float32:
    """x/2 · (1 + tanh z) = x / (1 + e^-2z), z = sqrt(2/π)·(x + 0.044715·x³) (Hendrycks and Gimpel, section 2)."""
    return x / (ONE + exp(-(GELU_A * (x + GELU_B * x * x * x))))  # type: ignore[no-any-return]
