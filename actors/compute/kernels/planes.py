"""Planes → the elements that they were split from, exactly, in registers or in scratch that the caches hold.

Sums run in the order of kernels/tiles.py and on the same values, so a table of planes gives the bits of the same table
stored raw. What lies how in a plane, and why: storage/codecs/planes.py.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from tidemill.actors.compute.kernels.elements import I16, I32, widen_pairs
from tidemill.actors.compute.kernels.llvm_code import I64, LANES, Code

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
HALF = 32
BLOCK = 2 * HALF  # weights that lie together; storage.codecs.planes.BLOCK
BYTES = ir.VectorType(ir.IntType(8), HALF)
CODES = ir.VectorType(ir.IntType(8), BLOCK)
HALVES = ir.VectorType(I16, HALF)
PAIRS = ir.VectorType(I32, LANES)

AHEAD_BYTES = 4096  # measured: 2048 and 8192 are slower by some percent, none by a quarter

Vectors = Sequence[ir.Value]


def splat(kind: ir.VectorType, value: int) -> ir.Constant:
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
        nibbles = builder.bitcast(builder.or_(rest, builder.shl(rest, splat(HALVES, 4))), CODES)
        moved = builder.bitcast(builder.shl(builder.bitcast(codes, HALVES), splat(HALVES, 4)), CODES)
        low = builder.or_(builder.and_(moved, splat(CODES, 0xF0)), builder.and_(nibbles, splat(CODES, 0x0F)))
        exponents = builder.and_(self._shifted(codes), splat(CODES, 0x07))
        is_zero = builder.icmp_unsigned("==", builder.or_(exponents, low), splat(CODES, 0))
        based = builder.select(is_zero, splat(CODES, 0), builder.add(exponents, self._base))
        high = builder.or_(based, builder.and_(codes, splat(CODES, 0x80)))
        return interleave(builder, low, high)

    def _shifted(self, codes: ir.Value) -> ir.Value:
        """Each byte's upper bits moved down, with bits of its neighbour above them: there is no shift of bytes."""
        builder = self._builder
        return builder.bitcast(builder.lshr(builder.bitcast(codes, HALVES), splat(HALVES, 4)), CODES)


def interleave(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> Vectors:
    """The two halves of a block from the lower and the upper bytes of its weights, both in the order of codes."""
    return [builder.bitcast(builder.shuffle_vector(low, high, _interleave(h)), HALVES) for h in (0, 1)]


def _interleave(half: int) -> ir.Constant:
    """Lower and upper bytes in turn, of the bytes 8 · half .. + 8 of each 16: what registers do at once."""
    picked = [16 * q + 8 * half + i + upper * BLOCK for q in range(4) for i in range(8) for upper in (0, 1)]
    return ir.Constant(ir.VectorType(I32, BLOCK), picked)


def widen_halves(builder: ir.IRBuilder, halves: Vectors) -> Vectors:
    return [vector for half in halves for vector in widen_pairs(builder, builder.bitcast(half, PAIRS))]
