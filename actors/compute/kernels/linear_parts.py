"""Constants of the kernels that planning memory needs too: they lie apart so that it does not import numba."""

MLP_PARTS = 8  # partial accumulators of the down projection; fixed, as their number is part of the bits
NEURON_BLOCK = 24  # neurons whose gates and ups are computed before their downs are added; no part of the bits
KEY_BLOCK = 64  # positions whose keys lie together; part of the bits (values are summed block by block)


def attention_scratch_floats(group: int, head_size: int, context: int) -> int:
    """Of one thread: scores of a group of heads over all positions, and the values' sums over a block."""
    return group * (-(-context // KEY_BLOCK) * KEY_BLOCK + head_size)


JOINED_ROWS = 8  # rows, and neurons, of planes that are joined at a time; no part of the bits
JOINED_NEURONS = 12
