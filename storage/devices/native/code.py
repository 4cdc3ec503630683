"""Compiled code as a file: made by numba once, loaded by llvmlite alone, which takes 7 MiB of a process where numba
takes 40. The reader's process holds nothing else that would need numba. Also a program: `main`."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm

from tidemill.storage.atomic_file import write_atomically

SYMBOL = "tidemill_gather"


class NativeCode:
    """`gather` of `gather_loop.py`: gives the status of an order at an address, without the interpreter's lock."""

    def __init__(self, compiled: bytes) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)  # owns the code
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(compiled))
        self._engine.finalize_object()
        # numba's calling convention: where the result goes, where an exception would, arguments
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._function: Callable[[int, int, int], int] = kind(self._engine.get_function_address(SYMBOL))

    def gather(self, order_address: int) -> int:
        result, exception = ctypes.c_int64(), ctypes.c_void_p()
        if self._function(ctypes.addressof(result), ctypes.addressof(exception), order_address) != 0:
            raise AssertionError("compiled code has no exceptions to raise")
        return result.value


def code_file(directory: Path) -> Path:
    """Code is for one sort of processor."""
    return directory / f"gather-{llvm.get_host_cpu_name()}.o"


def load_code(directory: Path) -> NativeCode:
    """From the file in `directory`; compiled and kept there if it is missing, some seconds. Raises
    OSError where it cannot be kept."""
    file = code_file(directory)
    if not file.exists():
        write_atomically(file, _compile())
    return NativeCode(file.read_bytes())


def _compile() -> bytes:
    from numba import types

    from tidemill.storage.devices.native.gather_loop import gather

    gather.compile((types.int64,))
    (compiled,) = gather.overloads.values()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(compiled.library.get_llvm_str())
    module.get_function(compiled.fndesc.llvm_func_name).name = SYMBOL
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="pic"
    )
    found: bytes = machine.emit_object(module)
    return found


def main(arguments: list[str]) -> int:
    """`python -m tidemill.storage.devices.native.code DIRECTORY`: compile in a process of its own; it takes memory."""
    load_code(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
