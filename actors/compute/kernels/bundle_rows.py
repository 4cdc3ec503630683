"""The loops over one *segment* (a row) of a self-contained bundle that lies anywhere in the arena.

The dtype of the arena's view names the codec: u8 is `bf16-bundles`, whose codes and rest are joined in registers (as
kernels/planes.py); u16, i16 and f32 are `raw-bundles` (as kernels/elements.py). Sums run in the order of
kernels/tiles.py, so both give the same bits.

All take a *span*: (place, ahead, total, column, base, first, last, start, stop). The bundle begins at byte `place` and
has `total` weights; the segment is its weights from `column` on, of which start .. stop are meant. Of `bf16-bundles`,
`base` is the exponent base and words[first:last] the exceptions from `start` on; there all of total, column, start and
stop are multiples of BLOCK. The same part of the bundle at byte `ahead` is fetched meanwhile: what comes next lies
elsewhere, so hardware that guesses from loads can't.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tidemill.actors.compute.kernels.elements import llvm_element
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
from tidemill.actors.compute.kernels.plane_blocks import Exceptions, Row, each_block
from tidemill.actors.compute.kernels.planes import HALVES, Planes, widen_halves

SPAN = [types.int64] * 9
Vectors = Sequence[ir.Value]
# use(k, the segment's weights k .. as f32 vectors or one f32, what is held) -> what is held then
Use = Callable[[ir.Value, Vectors, Vectors], Vectors]


class _Span:
    """A span's arguments, in code."""

    def __init__(self, context, builder, signature, args) -> None:  # type: ignore[no-untyped-def]
        self.code = Code(builder)
        self.stored: types.Type = signature.args[0].dtype
        self.data, self._words = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 1)
        )  # fmt: skip
        self._place, self._ahead, self._total, self._column, self._base, self._first, self._last = args[2:9]
        self.start, self.stop = args[9:11]

    def each_block(self, held: Vectors, use: Use) -> Vectors:
        """held = use(k, halves, held) over the blocks of a coded segment."""
        builder = self.code.builder
        half = builder.lshr(self._column, I64(1))
        codes = [builder.add(at, self._column) for at in (self._place, self._ahead)]
        rest = [builder.add(builder.add(at, self._total), half) for at in (self._place, self._ahead)]
        planes = Planes(self.code, self.data, codes[0], rest[0], self._base, (codes[1], rest[1]))
        row = Row(planes, Exceptions(builder, self._words, self._first, self._last))
        return each_block(
            self.code, [row], self.stop, held, lambda k, halves, held: use(k, halves[0], held), self.start
        )  # fmt: skip

    def _elements(self, at: ir.Value, itemsize: int) -> ir.Value:
        return self.code.builder.add(self.code.builder.udiv(at, I64(itemsize)), self._column)

    def each_vector(self, held: Vectors, use: Use) -> tuple[Vectors, ir.Value]:
        """held = use(k, one vector, held) over whole vectors of a raw segment, and where they end."""
        builder = self.code.builder
        rows = Array(builder, self.data, self.stored)
        at, ahead = (self._elements(place, rows.bytes) for place in (self._place, self._ahead))

        def body(k: ir.Value, sums: Vectors) -> Vectors:
            self.code.prefetch(rows.pointer(builder.add(ahead, k)))
            return use(k, [rows.load(builder.add(at, k), LANES)], sums)

        whole = builder.add(self.start, builder.and_(builder.sub(self.stop, self.start), I64(-LANES)))
        return self.code.loop(self.start, whole, LANES, held, body), whole

    def each_single(self, begin: ir.Value, held: Vectors, use: Use) -> Vectors:
        """held = use(k, one weight, held) over the rest of a raw segment."""
        builder = self.code.builder
        rows = Array(builder, self.data, self.stored)
        at = self._elements(self._place, rows.bytes)
        return self.code.loop(
            begin, self.stop, 1, held, lambda k, sums: use(k, [rows.load(builder.add(at, k))], sums)
        )  # fmt: skip

    def raw_pointer(self, k: ir.Value) -> ir.Value:
        itemsize = 4 if self.stored == types.float32 else 2
        at = self._elements(self._place, itemsize)
        return self.code.builder.gep(self.data, [self.code.builder.add(at, k)])

    @property
    def is_coded(self) -> bool:
        return bool(self.stored == types.uint8)


@intrinsic
def dot_span(typing_context, weights, words, place, ahead, total, column, base, first, last, start, stop, x, x_at):  # type: ignore[no-untyped-def]
    """Σ_k segment[k] · x[x_at + k] over the span, in the order of `tiles.dot_single`."""
    require_flat(weights, words, x)
    signature = types.float32(weights, words, *SPAN, x, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        span = _Span(context, builder, signature, args)
        (x,) = arrays_of(context, builder, signature, args, (11,))
        zero = ir.Constant(VECTOR, [0.0] * LANES)

        def use(k: ir.Value, vectors: Vectors, sums: Vectors) -> Vectors:
            (total,) = sums
            for i, vector in enumerate(vectors):
                lanes = LANES if vector.type == VECTOR else 1
                place = builder.add(builder.add(args[12], k), I64(i * LANES))
                total = span.code.fma(vector, x.load(place, lanes), total)
            return [total]

        if span.is_coded:
            (total,) = span.each_block([zero], lambda k, halves, sums: use(k, widen_halves(builder, halves), sums))
            return span.code.fold(total, builder.fadd)
        (total,), whole = span.each_vector([zero], use)
        return span.each_single(whole, [span.code.fold(total, builder.fadd)], use)[0]

    return signature, codegen


@intrinsic
def add_span(  # type: ignore[no-untyped-def]
    typing_context, weights, words, place, ahead, total, column, base, first, last, start, stop, factor, out, out_at
):
    """out[out_at + k] += factor · segment[k] over the span, as `tiles.add_single`."""
    require_flat(weights, words, out)
    signature = types.void(weights, words, *SPAN, types.float32, out, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        span = _Span(context, builder, signature, args)
        (out,) = arrays_of(context, builder, signature, args, (12,))
        spread = span.code.splat(args[11], VECTOR)

        def use(k: ir.Value, vectors: Vectors, held: Vectors) -> Vectors:
            for i, vector in enumerate(vectors):
                wide = vector.type == VECTOR
                lanes, factor = (LANES, spread) if wide else (1, args[11])
                at = builder.add(builder.add(args[13], k), I64(i * LANES))
                out.store(span.code.fma(factor, vector, out.load(at, lanes)), at, lanes)
            return held

        if span.is_coded:
            span.each_block([], lambda k, halves, held: use(k, widen_halves(builder, halves), held))
        else:
            _, whole = span.each_vector([], use)
            span.each_single(whole, [], use)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def join_span(  # type: ignore[no-untyped-def]
    typing_context, weights, words, place, ahead, total, column, base, first, last, start, stop, out, out_at
):
    """out[out_at + k - start] = segment[k] over the span: pairs of bf16 (u32; `out_at` counts weights), or raw elements
    copied."""
    require_flat(weights, words, out)
    expected = types.uint32 if weights.dtype == types.uint8 else weights.dtype
    if out.dtype != expected:
        raise TypeError(f"bundles in an arena of {weights.dtype} are joined to {expected}, not to {out.dtype}")
    signature = types.void(weights, words, *SPAN, out, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        span = _Span(context, builder, signature, args)
        out = context.make_array(signature.args[11])(context, builder, args[11]).data
        origin = builder.sub(args[12], span.start)

        def store(k: ir.Value, halves: Vectors, held: Vectors) -> Vectors:
            pairs = builder.lshr(builder.add(origin, k), I64(1))
            for i, half in enumerate(halves):
                place = builder.gep(out, [builder.add(pairs, I64(i * LANES))])
                builder.store(half, builder.bitcast(place, HALVES.as_pointer())).align = 4
            return held

        def copy(kind: ir.Type) -> Callable[[ir.Value, Vectors], Vectors]:
            def body(k: ir.Value, held: Vectors) -> Vectors:
                source, target = span.raw_pointer(k), builder.gep(out, [builder.add(origin, k)])
                value = builder.load(builder.bitcast(source, kind.as_pointer()), typ=kind)
                value.align = 2
                builder.store(value, builder.bitcast(target, kind.as_pointer())).align = 2
                return held

            return body

        if span.is_coded:
            span.each_block([], store)
        else:
            element = llvm_element(span.stored)
            whole = builder.add(span.start, builder.and_(builder.sub(span.stop, span.start), I64(-LANES)))
            span.code.loop(span.start, whole, LANES, [], copy(ir.VectorType(element, LANES)))
            span.code.loop(whole, span.stop, 1, [], copy(element))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def fetch_bytes(typing_context, words, at, count):  # type: ignore[no-untyped-def]
    """Ask for the lines of bytes at .. at + count of what `words` views, without waiting."""
    require_flat(words)
    signature = types.void(words, types.int64, types.int64)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        start = builder.bitcast(data, ir.IntType(8).as_pointer())
        code = Code(builder)

        def body(i: ir.Value, held: Vectors) -> Vectors:
            code.prefetch(builder.gep(start, [builder.add(args[1], i)]))
            return held

        code.loop(I64(0), args[2], LINE_BYTES, [], body)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def is_coded(typing_context, weights):  # type: ignore[no-untyped-def]
    """Known when compiled: whether bundles are read as `bf16-bundles`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return ir.IntType(1)(int(signature.args[0].dtype == types.uint8))

    return types.boolean(weights), codegen
