"""Memory at addresses and calls of functions at addresses, for compiled code that is given both as integers: what it
works on is laid out by the system (control blocks, buffers), and so it has neither arrays nor bounds. Whoever calls it
has checked every offset."""

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I8, I32, I64, I128 = (ir.IntType(bits) for bits in (8, 32, 64, 128))
LANES = ir.VectorType(I64, 8)
LOW_BITS = 0xFFFFFFFF
LINE = 64  # bytes of LANES
# What needs neither Python's objects nor its errors, and so runs in a process that has not loaded numba.
native = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _typed(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type, alignment: int) -> ir.Value:
    value = builder.load(_typed(builder, address, kind), typ=kind)
    value.align = alignment
    return value


def _store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, alignment: int) -> None:
    builder.store(value, _typed(builder, address, value.type)).align = alignment


@intrinsic
def load_u64(typing_context, address):  # type: ignore[no-untyped-def]
    """Eight bytes, little-endian on the machines that have this code, at any address."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _load(builder, args[0], I64, 1)

    return types.uint64(types.int64), codegen


@intrinsic
def load_i64(typing_context, address):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _load(builder, args[0], I64, 1)

    return types.int64(types.int64), codegen


@intrinsic
def load_now(typing_context, address):  # type: ignore[no-untyped-def]
    """An i64 that another thread may change: looked at again each time."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.load_atomic(_typed(builder, args[0], I64), "monotonic", 8, typ=I64)

    return types.int64(types.int64), codegen


@intrinsic
def load_u32(typing_context, address):  # type: ignore[no-untyped-def]
    """As an i64."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.zext(_load(builder, args[0], I32, 4), I64)

    return types.int64(types.int64), codegen


@intrinsic
def load_i32(typing_context, address):  # type: ignore[no-untyped-def]
    """As an i64."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.sext(_load(builder, args[0], I32, 4), I64)

    return types.int64(types.int64), codegen


@intrinsic
def store_u64(typing_context, address, value):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _store(builder, args[1], args[0], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), codegen


@intrinsic
def store_i64(typing_context, address, value):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        _store(builder, args[1], args[0], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy_bytes(typing_context, target, source, count):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        target, source = (_typed(builder, address, I8) for address in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def fold_product(typing_context, a, b):  # type: ignore[no-untyped-def]
    """The 128 bits of a · b, upper half xor lower half."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        wide = builder.mul(*(builder.zext(value, I128) for value in args))
        return builder.xor(builder.trunc(wide, I64), builder.trunc(builder.lshr(wide, I128(64)), I64))

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def add_stripes(typing_context, sums, data, secret, stripes):  # type: ignore[no-untyped-def]
    """XXH3_accumulate: for each stripe of 64 bytes, sums[i ^ 1] += data[i] and sums[i] += the product of the halves of
    data[i] ^ secret[i]; the secret moves on by 8 bytes a stripe. `sums` is the address of eight u64."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        sums, data, secret, stripes = args
        low, half = (ir.Constant(LANES, [number] * 8) for number in (LOW_BITS, 32))
        swapped = ir.Constant(ir.VectorType(I32, 8), [1, 0, 3, 2, 5, 4, 7, 6])
        held = cgutils.alloca_once_value(builder, _load(builder, sums, LANES, LINE))
        with cgutils.for_range(builder, stripes) as loop:
            words = _load(builder, builder.add(data, builder.mul(loop.index, I64(LINE))), LANES, 1)
            key = _load(builder, builder.add(secret, builder.mul(loop.index, I64(8))), LANES, 1)
            mixed = builder.xor(words, key)
            product = builder.mul(builder.and_(mixed, low), builder.lshr(mixed, half))
            before = builder.load(held, typ=LANES)
            turned = builder.shuffle_vector(words, words, swapped)
            builder.store(builder.add(builder.add(before, turned), product), held)
        _store(builder, builder.load(held, typ=LANES), sums, LINE)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def scramble_sums(typing_context, sums, secret, prime):  # type: ignore[no-untyped-def]
    """XXH3_scrambleAcc: sums = (sums ^ sums >> 47 ^ secret) · prime."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        sums, secret, prime = args
        before = _load(builder, sums, LANES, LINE)
        mixed = builder.xor(before, builder.lshr(before, ir.Constant(LANES, [47] * 8)))
        mixed = builder.xor(mixed, _load(builder, secret, LANES, 1))
        one = builder.insert_element(ir.Constant(LANES, ir.Undefined), prime, I32(0))
        primes = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, 8), [0] * 8))
        _store(builder, builder.mul(mixed, primes), sums, LINE)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint64), codegen


def _call(
    builder: ir.IRBuilder, function: ir.Value, arguments: list[ir.Value], *, fixed: int, result: ir.Type
) -> ir.Value:
    """The C function at an address; those behind the first `fixed` arguments are variable ones."""
    kind = ir.FunctionType(result, [value.type for value in arguments[:fixed]], var_arg=fixed < len(arguments))
    return builder.call(builder.inttoptr(function, kind.as_pointer()), arguments)


@intrinsic
def call_syscall(typing_context, function, number, a, b, c, d, e):  # type: ignore[no-untyped-def]
    """libc's `long syscall(long number, ...)`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _call(builder, args[0], list(args[1:]), fixed=1, result=I64)

    return types.int64(*(types.int64,) * 7), codegen


@intrinsic
def call_pread(typing_context, function, file, address, count, offset):  # type: ignore[no-untyped-def]
    """libc's `ssize_t pread(int file, void *buffer, size_t count, off_t offset)`, off_t of 64 bits."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        arguments = [builder.trunc(args[1], I32), *args[2:]]
        return _call(builder, args[0], arguments, fixed=4, result=I64)

    return types.int64(*(types.int64,) * 5), codegen


@intrinsic
def call_advise(typing_context, function, file, offset, count, advice):  # type: ignore[no-untyped-def]
    """libc's `int posix_fadvise(int file, off_t offset, off_t count, int advice)`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        arguments = [builder.trunc(args[1], I32), args[2], args[3], builder.trunc(args[4], I32)]
        return builder.sext(_call(builder, args[0], arguments, fixed=4, result=I32), I64)

    return types.int64(*(types.int64,) * 5), codegen


@intrinsic
def call_for_errno(typing_context, function):  # type: ignore[no-untyped-def]
    """Where this thread's errno lies: libc's `int *__errno_location(void)`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _call(builder, args[0], [], fixed=0, result=I64)

    return types.int64(types.int64), codegen
