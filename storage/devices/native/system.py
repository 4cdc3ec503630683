"""What compiled code needs of the system: addresses of libc's functions, and contexts of Linux's asynchronous reads."""

import ctypes
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

# Numbers of io_setup, io_destroy, io_getevents, io_submit.
NUMBERS = MappingProxyType({"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2), "riscv64": (0, 1, 4, 2)})
ERRNO_NAMES = ("__errno_location", "__error")  # of glibc and musl, of macOS


@dataclass(frozen=True, slots=True)
class Calls:
    """Addresses of functions; numbers of system calls are 0 where reads cannot be asynchronous."""

    pread: int
    errno: int
    advise: int  # 0: there is none
    syscall: int
    submit_number: int
    events_number: int


def find_calls() -> Calls:
    libc = ctypes.CDLL(None)
    _, _, events, submit = _numbers() or (0, 0, 0, 0)
    return Calls(
        pread=_address(libc, "pread"),
        errno=next(address for name in ERRNO_NAMES if (address := _address(libc, name))),
        advise=_address(libc, "posix_fadvise"),
        syscall=_address(libc, "syscall"),
        submit_number=submit,
        events_number=events,
    )


class AsyncContexts:
    """Contexts of asynchronous reads, all of them or none: a system may forbid them, or have given out all it has."""

    def __init__(self, count: int, depth: int) -> None:
        """Each for up to `depth` reads at once."""
        self.contexts: list[int] = []
        numbers = _numbers()
        if numbers is None:
            return
        self._setup, self._destroy = numbers[:2]
        self._syscall: Callable[..., int] = ctypes.CDLL(None, use_errno=True).syscall
        for _ in range(count):
            context = ctypes.c_uint64()
            if self._syscall(self._setup, depth, ctypes.byref(context)) != 0:
                self.close()
                return
            self.contexts.append(context.value)

    def close(self) -> None:
        """Waits for what is under way."""
        for context in self.contexts:
            self._syscall(self._destroy, ctypes.c_uint64(context))
        self.contexts.clear()


def _numbers() -> tuple[int, int, int, int] | None:
    is_linux = sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8
    return NUMBERS.get(platform.machine()) if is_linux else None


def _address(libc: ctypes.CDLL, name: str) -> int:
    function = getattr(libc, name, None)
    return (ctypes.cast(function, ctypes.c_void_p).value or 0) if function is not None else 0
