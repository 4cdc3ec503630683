"""The shared counters: one i64 each, one writing actor each, read by anyone at any time (a torn read is impossible
for 8 aligned bytes). In-process they are a plain array, between processes a small shared region."""

from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Counters: TypeAlias = npt.NDArray[np.int64]  # [len(Counter)]
MILLION = 1_000_000  # of shares that are counted in whole numbers


class Counter(IntEnum):
    # reader
    FLASH_BYTES = 0  # stored bytes that came from flash, verified
    FLASH_READS = 1
    FLASH_BUSY_NS = 2  # time with at least one read in flight
    FLASH_RETRIES = 3  # reads that were tried again, as what refused them may pass
    LOAD_MODE = 4  # place in storage.devices.device.LOAD_MODES
    # arena
    LOCKED_BYTES_LOADED = 5
    STREAMED_BYTES = 6  # decoded bytes that passed through the ring
    ROW_BYTES = 7  # stored bytes read for single rows
    DROPPED_BYTES = 8  # read for an abandoned lap and never used
    # compute
    COMPUTE_NS = 9
    STALL_NS = 10
    STEPS = 11
    POSITIONS = 12
    ROW_STALL_NS = 13  # the part of STALL_NS that waited for embedding rows
    KV_POSITIONS = 14  # the most positions that the KV cache has held
    # arena, of tables whose bundles come one by one
    BUNDLES_USED = 15
    BUNDLE_HITS = 16  # cached when their visit began
    BUNDLE_PRELOAD_HITS = 17  # preloaded, and used
    BUNDLES_WASTED = 18  # preloaded, and not used
    # reader
    GATHERED_BYTES = 19  # of bundles that were asked for; FLASH_BYTES counts what lay between them too
    # arena: what was read before it was asked for
    PRELOAD_USEFUL_BYTES = 20  # and then used
    PRELOAD_WASTED_BYTES = 21  # and then not
    PRELOAD_CANCELLED_BYTES = 22  # given up before it was read
    PRELOAD_TOKENS = 23  # tokens of a selection during which the brake let preloads pass

    # reader: of gathers alone
    GATHER_READS = 24
    GATHER_READ_BYTES = 25  # with what lay between
    # compute: millionths of each operator's channels (neurons) that it computed with, summed over decoded positions
    COMPUTED_Q = 26
    COMPUTED_K = 27
    COMPUTED_V = 28
    COMPUTED_O = 29
    COMPUTED_GATE = 30
    COMPUTED_UP = 31
    COMPUTED_DOWN = 32
    SELECTED_POSITIONS = 33  # the number of those positions
    # arena: bundles that one layer may cache more because another may cache fewer
    QUOTA_MOVED = 34
    # reader
    FLASH_REREADS = 35  # reads that were done again, as their bytes were not those that were written
    # reader, of an emulated drive: in the order of storage.devices.emulated.device.Tally
    EMULATED_LATE_READS = 36
    EMULATED_LATE_NS = 37
    EMULATED_FAULTS = 38


def new_counters() -> Counters:
    return np.zeros(len(Counter), dtype=np.int64)
