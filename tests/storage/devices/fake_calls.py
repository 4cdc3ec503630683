"""The system's reads, done by Python: errors on demand, and asynchronous reads that end in any order."""

import ctypes
import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tidemill.storage.devices.native.system import Calls, find_calls

LONG = ctypes.c_long
SYSCALL = ctypes.CFUNCTYPE(LONG, *(LONG,) * 6, use_errno=True)
PREAD = ctypes.CFUNCTYPE(LONG, ctypes.c_int, LONG, LONG, LONG, use_errno=True)
SUBMIT, EVENTS = 1, 2


@dataclass
class FakeCalls:
    """`pread(file, address, count, offset)` gives bytes read, or raises OSError; every asynchronous read goes by
    `finish`, which gives what the system would: bytes, or an errno below 0. `refusals`: how many calls to submit fail
    before one is heard."""

    seed: int = 0
    refusals: int = 0
    most_under_way: int = 0
    submitted: int = 0
    pread: Callable[[int, int, int, int], int] | None = None
    finish: Callable[[int, int, int, int], int] | None = None
    _open: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._kept = SYSCALL(self._syscall), PREAD(self._pread)

    @property
    def calls(self) -> Calls:
        syscall, pread = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in self._kept)
        return Calls(pread, find_calls().errno, find_calls().advise, syscall, SUBMIT, EVENTS)

    def _syscall(self, number: int, context: int, a: int, b: int, c: int, d: int) -> int:
        return self._submit(a, b) if number == SUBMIT else self._events(a, b, c)

    def _submit(self, count: int, pointers: int) -> int:
        if count == 0:
            return 0
        if self.refusals:
            self.refusals -= 1
            ctypes.set_errno(errno.EAGAIN)
            return -1
        taken = self._random.randint(1, count)
        self._open += (ctypes.c_long * taken).from_address(pointers)
        self.submitted += taken
        self.most_under_way = max(self.most_under_way, len(self._open))
        return taken

    def _events(self, least: int, most: int, events: int) -> int:
        if self._random.random() < 0.2:
            ctypes.set_errno(errno.EINTR)
            return -1
        count = self._random.randint(least, min(most, len(self._open)))
        self._random.shuffle(self._open)
        for number in range(count):
            words = (ctypes.c_long * 8).from_address(iocb := self._open.pop())
            assert words[2] & 0xFFFFFFFF == 0  # opcode IOCB_CMD_PREAD
            read = self.finish or preadv
            reached = read(words[2] >> 32, words[3], words[4], words[5])
            (ctypes.c_long * 4).from_address(events + 32 * number)[:] = [words[0], iocb, reached, 0]
        return count

    def _pread(self, file: int, address: int, count: int, offset: int) -> int:
        try:
            return (self.pread or preadv)(file, address, count, offset)
        except OSError as error:
            ctypes.set_errno(error.errno or 0)
            return -1


def preadv(file: int, address: int, count: int, offset: int) -> int:
    return os.preadv(file, [(ctypes.c_char * count).from_address(address)], offset)
