"""Reads single bundles, checks them and copies them to their slots: all of an order (`order.py`) in one call, compiled,
without the interpreter's lock.

Many reads are under way at once by Linux's asynchronous I/O (io_submit, io_getevents): one thread keeps the drive as
busy as it likes. Without it (`CONTEXT` 0) reads follow one another by `pread`. Whatever an asynchronous read did not
bring, `pread` is asked for, so that there is one way in which reads fail.

The buffer is a ring: reads take their place at its head, and give it back in the order in which they took it. Nothing
is written to a slot but bundles that were checked. A read that failed ends the call once nothing is under way any more.
"""

import numpy as np

from tidemill.storage.devices.native import order as o
from tidemill.storage.devices.native.bundle_lists import are_lists_right
from tidemill.storage.devices.native.raw_memory import (
    call_advise,
    call_for_errno,
    call_pread,
    call_syscall,
    copy_bytes,
    load_i32,
    load_i64,
    load_now,
    load_u64,
    native,
    store_i64,
    store_u64,
)
from tidemill.storage.devices.native.xxh3 import xxh3_64

EINTR = 4
DONT_NEED = 4  # POSIX_FADV_DONTNEED
IOCB_BYTES, EVENT_BYTES, OWN_BYTES = 64, 32, 8 * o.OWN_WORDS
DIGEST_BYTES = 8
SHARE_AWAITED = 8  # of reads under way, 1 in so many is waited for at once: fewer calls, and the drive stays busy
MOST_AWAITED = 8
READ, BEGIN, END, IS_DONE = 0, 8, 16, 24  # of the own words of an entry


@native
def _word(order: int, number: int) -> int:
    return load_i64(order + 8 * number)


@native
def _list(order: int, number: int, i: int) -> int:
    return load_i64(_word(order, number) + 8 * i)


@native
def _iocb(order: int, entry: int) -> int:
    return _word(order, o.SCRATCH) + o.HASH_BYTES + entry * IOCB_BYTES


@native
def _event(order: int, number: int) -> int:
    return _iocb(order, _word(order, o.DEPTH)) + number * EVENT_BYTES


@native
def _own(order: int, entry: int) -> int:
    return _event(order, _word(order, o.DEPTH)) + entry * OWN_BYTES


@native
def _pointer(order: int, number: int) -> int:
    return _own(order, _word(order, o.DEPTH)) + 8 * number


@native
def _fail(order: int, read: int, bundle: int, number: int) -> None:
    store_i64(order + 8 * o.BAD_READ, read)
    store_i64(order + 8 * o.BAD_BUNDLE, bundle)
    store_i64(order + 8 * o.BAD_NUMBER, number)


@native
def _errno(order: int) -> int:
    return load_i32(call_for_errno(_word(order, o.ERRNO)))


@native
def _needed_bytes(order: int, read: int) -> int:
    """From the read's offset to the end of its last bundle."""
    last = _list(order, o.EDGES, read + 1) - 1
    return _list(order, o.STARTS, last) + _word(order, o.BUNDLE_BYTES)


@native
def _length(order: int, read: int) -> int:
    alignment = _word(order, o.ALIGNMENT)
    return (_needed_bytes(order, read) + alignment - 1) // alignment * alignment


@native
def _place(order: int, read: int, data: int) -> int:
    """Check the bundles of a read that lies at `data` and copy them to their slots; a status."""
    size, pool, scratch = _word(order, o.BUNDLE_BYTES), _word(order, o.POOL), _word(order, o.SCRATCH)
    lengths, segments, capacity = _word(order, o.SEGMENTS), _word(order, o.SEGMENT_COUNT), _word(order, o.CAPACITY)
    for i in range(_list(order, o.EDGES, read), _list(order, o.EDGES, read + 1)):
        bundle = data + _list(order, o.STARTS, i)
        if _word(order, o.IS_SEALED):
            seed = np.uint64(_word(order, o.SEED)) + np.uint64(_list(order, o.IDS, i))
            got = xxh3_64(bundle, size - DIGEST_BYTES, seed, _word(order, o.SECRET), scratch)
            if got != load_u64(bundle + size - DIGEST_BYTES):
                _fail(order, read, i, 0)
                store_u64(order + 8 * o.BAD_DIGEST, got)
                store_u64(order + 8 * o.EXPECTED_DIGEST, load_u64(bundle + size - DIGEST_BYTES))
                return o.WRONG_DIGEST
        if segments and not are_lists_right(bundle, lengths, segments, capacity):
            _fail(order, read, i, 0)
            return o.WRONG_LISTS
        copy_bytes(pool + _list(order, o.SLOTS, i) * size, bundle, size)
    return o.DONE


@native
def _fill(order: int, read: int, data: int, reached: int) -> int:
    """Go on with a read of which `reached` bytes lie at `data` until all that is needed does; a status.

    A direct read goes on at a page, so it reads the end of a short one again; the file ends where that gets no further.
    """
    needed, length, alignment = _needed_bytes(order, read), _length(order, read), _word(order, o.ALIGNMENT)
    file, offset = _list(order, o.FILES, read), _list(order, o.OFFSETS, read)
    while reached < needed:
        start = reached // alignment * alignment
        got = call_pread(_word(order, o.PREAD), file, data + start, length - start, offset + start)
        if got < 0:
            number = _errno(order)
            if number == EINTR:
                continue
            _fail(order, read, -1, number)
            return o.FAILED_READ
        if start + got <= reached:
            _fail(order, read, -1, reached)
            return o.SHORT_READ
        reached = start + got
    if _word(order, o.DROPS_CACHE):
        call_advise(_word(order, o.ADVISE), file, offset, length, DONT_NEED)
    return o.DONE


@native
def _finish(order: int, read: int, data: int, reached: int) -> int:
    status = _fill(order, read, data, reached)
    return _place(order, read, data) if status == o.DONE else status


@native
def _gather_in_turn(order: int) -> int:
    for read in range(_word(order, o.FIRST), _word(order, o.LAST)):
        if load_now(_word(order, o.CANCELLED)):
            return o.STOPPED
        status = _finish(order, read, _word(order, o.BUFFER), 0)
        if status != o.DONE:
            return status
    return o.DONE


@native
def _find_room(order: int, oldest: int, head: int, length: int) -> int:
    """Where `length` bytes are free behind `head` in the ring whose oldest read begins at `oldest` (below 0: it is
    empty); -1 if nowhere. A full ring and an empty one would look alike, so it never gets full."""
    if oldest < 0:
        return 0
    if head > oldest:
        if length <= _word(order, o.BUFFER_BYTES) - head:
            return head
        return 0 if length < oldest else -1
    return head if length < oldest - head else -1


@native
def _prepare(order: int, entry: int, read: int, begin: int) -> None:
    """Fill in the entry and its iocb: struct iocb of linux/aio_abi.h, opcode IOCB_CMD_PREAD = 0."""
    own, iocb, length = _own(order, entry), _iocb(order, entry), _length(order, read)
    store_i64(own + READ, read)
    store_i64(own + BEGIN, begin)
    store_i64(own + END, begin + length)
    store_i64(own + IS_DONE, 0)
    for at in range(0, IOCB_BYTES, 8):
        store_i64(iocb + at, 0)
    store_i64(iocb, entry)
    store_i64(iocb + 16, _list(order, o.FILES, read) << 32)
    store_i64(iocb + 24, _word(order, o.BUFFER) + begin)
    store_i64(iocb + 32, length)
    store_i64(iocb + 40, _list(order, o.OFFSETS, read))


@native
def _submit(order: int, count: int) -> int:
    """Hand over the entries whose iocbs the first `count` pointers name; how many the system took."""
    taken = 0
    while taken < count:
        got = call_syscall(
            _word(order, o.SYSCALL), _word(order, o.SUBMIT_NUMBER), _word(order, o.CONTEXT), count - taken,
            _pointer(order, taken), 0, 0,
        )  # fmt: skip
        if got < 0 and _errno(order) == EINTR:
            continue
        if got <= 0:
            break
        taken += got
    return taken


@native
def _end(order: int, entry: int, reached: int, status: int) -> int:
    """An entry's read came to an end; the status of all so far. After a failure nothing is placed any more."""
    own = _own(order, entry)
    store_i64(own + IS_DONE, 1)
    if status != o.DONE:
        return status
    return _finish(order, load_i64(own + READ), _word(order, o.BUFFER) + load_i64(own + BEGIN), max(reached, 0))


@native
def _await_events(order: int, under_way: int) -> int:
    """Wait for some of the reads under way; how many events there are. Below 0: the system refuses to say."""
    least = max(1, min(under_way // SHARE_AWAITED, MOST_AWAITED))
    while True:
        got = call_syscall(
            _word(order, o.SYSCALL), _word(order, o.EVENTS_NUMBER), _word(order, o.CONTEXT), least,
            _word(order, o.DEPTH), _event(order, 0), 0,
        )  # fmt: skip
        if got >= 0 or _errno(order) != EINTR:
            return got


@native
def _gather_at_once(order: int) -> int:
    depth, last = _word(order, o.DEPTH), _word(order, o.LAST)
    read, status = _word(order, o.FIRST), o.DONE
    oldest = newest = under_way = 0  # numbers of entries, taken in turn; reads that the system has
    head = 0  # of the buffer
    while read < last or under_way:
        if status == o.DONE and read < last and load_now(_word(order, o.CANCELLED)):
            status = o.STOPPED
        allowed = _word(order, o.LOW_DEPTH) if load_now(_word(order, o.YIELDS)) else depth
        first_new = newest
        while status == o.DONE and read < last and newest - oldest < allowed:
            start = load_i64(_own(order, oldest % depth) + BEGIN) if newest > oldest else -1
            begin = _find_room(order, start, head, _length(order, read))
            if begin < 0:
                break
            entry = newest % depth
            _prepare(order, entry, read, begin)
            store_i64(_pointer(order, newest - first_new), _iocb(order, entry))
            head = load_i64(_own(order, entry) + END)
            newest += 1
            read += 1
        taken = _submit(order, newest - first_new)
        under_way += taken
        for number in range(first_new + taken, newest):  # refused: read now, or hear from pread why not
            status = _end(order, number % depth, 0, status)
        if under_way:
            events = _await_events(order, under_way)
            if events < 0:
                return o.LOST
            under_way -= events
            for number in range(events):
                event = _event(order, number)
                status = _end(order, load_i64(event), load_i64(event + 16), status)
        while oldest < newest and load_i64(_own(order, oldest % depth) + IS_DONE):
            oldest += 1
        if status != o.DONE:
            read = last
    return status


@native
def gather(order: int) -> int:
    """`order` is the address of the block. Gives a status of `order.py`."""
    return _gather_at_once(order) if _word(order, o.CONTEXT) else _gather_in_turn(order)
