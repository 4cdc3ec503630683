import mmap

import numpy as np

from tidemill.storage.devices.prefault import Prefaulter


def test_populating_changes_no_byte() -> None:
    buffer = np.frombuffer(mmap.mmap(-1, 8 * mmap.PAGESIZE), np.uint8)
    buffer[5000] = 7
    prefaulter = Prefaulter(buffer.ctypes.data)
    for _ in range(2):
        prefaulter.populate(mmap.PAGESIZE, 4 * mmap.PAGESIZE)
    assert buffer[5000] == 7
    assert buffer.sum() == 7


def test_memory_that_cannot_be_populated_is_left_alone() -> None:
    buffer = np.ones(8 * mmap.PAGESIZE, np.uint8)
    prefaulter = Prefaulter(buffer.ctypes.data + 1)  # no page begins there
    prefaulter.populate(0, mmap.PAGESIZE)
    prefaulter.populate(mmap.PAGESIZE, mmap.PAGESIZE)
    assert buffer.all()
