"""Constants of the kernels that planning memory needs too: they lie apart so that it does not import numba."""

MLP_PARTS = 8  # partial accumulators of the down projection; fixed, as their number is part of the bits
KEY_BLOCK = 64  # positions whose keys lie together; part of the bits (values are summed block by block)
# The rest only decides what the caches hold at once, and is no part of the bits.
NEURON_BLOCK = 24  # neurons whose gates and ups are computed before their downs are added
JOINED_ROWS = 8  # rows of planes that are joined at a time for a batch
JOINED_NEURONS = 48  # neurons likewise, at most: more of them share each load of the sums
JOINED_NEURONS_MIN = 8
JOINED_CHANNELS = 48  # input channels that are joined at a time for a batch, at most
CHANNEL_COLUMNS = (
    4096  # of an output row that channels are added to at a time: 16 KiB of sums, half a first-level cache
)
JOINED_WEIGHTS = 3 * 48 * 2304  # 650 KiB, of 1 MiB of second-level cache


def attention_scratch_floats(group: int, head_size: int, context: int) -> int:
    """Of one thread: scores of a group of heads over all positions, and the values' sums over a block."""
    return group * (-(-context // KEY_BLOCK) * KEY_BLOCK + head_size)


def joined_weights(row: int, longest_row: int) -> int:
    """Weights of one thread's scratch for joined rows, in a decoder of that residual width."""
    neurons = min(JOINED_NEURONS, max(JOINED_NEURONS_MIN, JOINED_WEIGHTS // (3 * row)))
    return max(JOINED_ROWS * longest_row, 3 * neurons * row)
