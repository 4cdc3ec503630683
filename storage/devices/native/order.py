"""The order that compiled code is given: one block of 64-bit words, by number of the word. Addresses are of memory that
outlives the call."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]
GatherFunction = Callable[[int], int]  # the address of an order -> a status

# What is wanted: reads [FIRST, LAST) of lists that begin at these addresses, as in GatherRequest; i64 each.
FIRST, LAST = 0, 1
FILES, OFFSETS, EDGES, STARTS, SLOTS, IDS = 2, 3, 4, 5, 6, 7  # FILES: a descriptor for each read
BUNDLE_BYTES = 8
POOL = 9  # address of slot 0
ALIGNMENT = 10  # of the offsets and lengths of reads
# How bundles are checked.
IS_SEALED = 11  # whether they end in a digest, and are believed by it
SEED = 12  # of bundle 0's digest
SEGMENTS, SEGMENT_COUNT, CAPACITY = 13, 14, 15  # i64 of each segment, for coded bundles; a count of 0: not coded
# How reads are done.
BUFFER, BUFFER_BYTES = 16, 17
DEPTH = 18  # most reads under way
LOW_DEPTH = 19  # and while the word at YIELDS is not 0
CANCELLED, YIELDS = 20, 21  # addresses of words that others write
CONTEXT = 22  # of the kernel's asynchronous reads; 0: one read after another
SCRATCH = 23  # SCRATCH_BYTES(DEPTH), on a cache line
DROPS_CACHE = 24  # whether the page cache is told to drop what was read
# The system's.
PREAD, SYSCALL, ERRNO, ADVISE = 25, 26, 27, 28  # addresses of functions
SUBMIT_NUMBER, EVENTS_NUMBER = 29, 30  # of system calls
SECRET = 31
# How it went, beside the status that the call gives back.
BAD_READ, BAD_BUNDLE, BAD_NUMBER = 32, 33, 34  # a read; a bundle of the lists; errno, or bytes that were reached
BAD_DIGEST, EXPECTED_DIGEST = 35, 36
WORDS = 37

DONE, STOPPED, FAILED_READ, SHORT_READ, WRONG_DIGEST, WRONG_LISTS, LOST = range(7)

# Scratch: workspace of the digest, then for each read under way an iocb (64 bytes), an event (32), a pointer (8) and
# four words of ours.
HASH_BYTES = 256
OWN_WORDS = 4  # the read, where its bytes begin in the buffer, where they end, whether it is done
ENTRY_BYTES = 64 + 32 + 8 + 8 * OWN_WORDS


def scratch_bytes(depth: int) -> int:
    return HASH_BYTES + depth * ENTRY_BYTES


def aligned_words(byte_count: int) -> Words:
    """Zeros that begin on a cache line."""
    memory = np.zeros(byte_count // 8 + 8, np.int64)
    first = -memory.ctypes.data % 64 // 8
    return memory[first : first + byte_count // 8]
