"""Whether kernels can follow what a coded bundle says of itself: for compiled code, what `find_bad_bundle` of
codecs/bf16_bundles.py is for Python."""

from tidemill.storage.devices.native.raw_memory import load_i64, load_u32, native

HIGHEST_BASE = 240  # of the exponents; all are even


@native
def are_lists_right(bundle: int, lengths: int, segments: int, capacity: int) -> bool:
    """Of the bundle at an address. `lengths` is where the weights of each of its segments are told, i64; `capacity` is
    how many exceptions it has room for."""
    weights = 0
    for segment in range(segments):
        weights += load_i64(lengths + 8 * segment)
    tail = bundle + weights + weights // 2
    base = load_u32(tail)
    starts = tail + 4
    entries = starts + 4 * (segments + 1)
    if base > HIGHEST_BASE or base & 1 or load_u32(starts) != 0:
        return False
    for segment in range(segments):
        first, last = load_u32(starts + 4 * segment), load_u32(starts + 4 * segment + 4)
        if last < first or last > capacity:
            return False
        before = -1
        for i in range(first, last):
            place = load_u32(entries + 4 * i) >> 16
            if place <= before or place >= load_i64(lengths + 8 * segment):
                return False
            before = place
    return True
