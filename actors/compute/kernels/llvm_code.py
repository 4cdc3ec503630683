"""LLVM code for loops over arrays, written by hand so that no compiler decides an order of arithmetic: what tiles and
row loops are made of. Arrays are C-contiguous and addressed flat, in elements."""

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tidemill.actors.compute.kernels.elements import FLOAT, I16, I32, llvm_element, widen, widen_pairs

LANES = 16
LINE_BYTES = 64
NEAR = 2  # how near to the core prefetched lines are wanted: the second-level cache
I64 = ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
Body = Callable[[ir.Value, Sequence[ir.Value]], Sequence[ir.Value]]


class Array:
    """An array argument of an intrinsic: loads and stores at flat element numbers.

    One of u32 holds *pairs* of bf16 (elements.widen_pairs): numbers count weights, and two vectors are loaded at a
    time.
    """

    def __init__(self, builder: ir.IRBuilder, data: ir.Value, stored: types.Type) -> None:
        self._builder = builder
        self._data = data
        self._stored = stored
        self.holds_pairs = stored == types.uint32
        self.bytes = 4 if stored == types.float32 else 2  # of an element

    def pointer(self, at: ir.Value) -> ir.Value:
        place = self._builder.lshr(at, I64(1)) if self.holds_pairs else at
        return self._builder.gep(self._data, [place])

    def _typed(self, at: ir.Value, lanes: int) -> tuple[ir.Value, ir.Type]:
        element = llvm_element(self._stored)
        kind = ir.VectorType(element, lanes) if lanes > 1 else element
        return self._builder.bitcast(self.pointer(at), kind.as_pointer()), kind

    def load(self, at: ir.Value, lanes: int = 1) -> ir.Value:
        """f32, widened."""
        if self.holds_pairs:
            return self._load_of_pair(at)
        pointer, kind = self._typed(at, lanes)
        value = self._builder.load(pointer, typ=kind)
        value.align = self.bytes
        return widen(self._builder, value, self._stored)

    def _load_of_pair(self, at: ir.Value) -> ir.Value:
        builder = self._builder
        inside = builder.and_(at, I64(2 * LANES - 1))
        lane = builder.or_(builder.shl(builder.and_(inside, I64(LANES - 1)), I64(1)), builder.lshr(inside, I64(4)))
        halves = builder.bitcast(self._data, I16.as_pointer())
        value = builder.load(builder.gep(halves, [builder.or_(builder.and_(at, I64(-2 * LANES)), lane)]), typ=I16)
        value.align = 2
        return widen(builder, value, types.uint16)

    def vectors(self, at: ir.Value) -> Sequence[ir.Value]:
        """The least that can be loaded from here on: one vector of LANES, or two of pairs."""
        if not self.holds_pairs:
            return [self.load(at, LANES)]
        pointer, kind = self._typed(at, LANES)
        value = self._builder.load(pointer, typ=kind)
        value.align = 4
        return widen_pairs(self._builder, value)

    def store(self, value: ir.Value, at: ir.Value, lanes: int = 1) -> None:
        pointer, _ = self._typed(at, lanes)
        self._builder.store(value, pointer).align = self.bytes


class Code:
    """What both tiles are written with."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        name = f"llvm.fma.v{LANES}f32" if a.type == VECTOR else "llvm.fma.f32"
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(a.type, [a.type] * 3), name)
        return self.builder.call(function, [a, b, c])

    def prefetch(self, pointer: ir.Value) -> None:
        """Ask for a cache line, without waiting; beyond what is mapped this has no effect."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(function, [self.builder.bitcast(pointer, byte), I32(0), I32(NEAR), I32(1)])

    def plus(self, base: ir.Value, step: ir.Value | int, times: int = 1) -> ir.Value:
        """base + step * times."""
        if isinstance(step, int):
            return self.builder.add(base, I64(step * times)) if step * times else base
        return base if times == 0 else self.builder.add(base, self.builder.mul(step, I64(times)))

    def loop(
        self,
        start: ir.Value,
        stop: ir.Value,
        step: int,
        sums: Sequence[ir.Value],
        body: Body,
    ) -> Sequence[ir.Value]:
        """`for i in range(start, stop, step): sums = body(i, sums)`, the sums held in registers."""
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("tile.head", "tile.body", "tile.end"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(I64)
        index.add_incoming(start, before)
        held = []
        for value in sums:
            phi = builder.phi(value.type)
            phi.add_incoming(value, before)
            held.append(phi)
        builder.cbranch(builder.icmp_signed("<", index, stop), inside, after)
        builder.position_at_end(inside)
        updated = body(index, held)
        for phi, value in zip(held, updated, strict=True):
            phi.add_incoming(value, builder.block)
        index.add_incoming(builder.add(index, I64(step)), builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return held

    def fold(self, vector: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Lanes joined to one value: the lower half with the upper half, until one is left."""
        width = LANES
        while width > 1:
            width //= 2
            low, high = (
                self.builder.shuffle_vector(
                    vector, vector, ir.Constant(ir.VectorType(I32, width), [*range(first, first + width)])
                )
                for first in (0, width)
            )
            vector = join(low, high)
        return self.builder.extract_element(vector, I32(0))

    def larger(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger of two, b where one is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def splat(self, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def require_flat(*arrays: types.Type) -> None:
    """A strided view is a bug of the caller: its elements are not where a tile looks."""
    for array in arrays:
        if not isinstance(array, types.Array) or array.layout != "C":
            raise TypeError(f"kernels work on C-contiguous arrays, not on {array}")


def arrays_of(context, builder, signature, args, numbers):  # type: ignore[no-untyped-def]
    """The arguments of an intrinsic that are arrays, by their numbers."""
    found = []
    for number in numbers:
        kind = signature.args[number]
        data = context.make_array(kind)(context, builder, args[number]).data
        found.append(Array(builder, data, kind.dtype))
    return found
