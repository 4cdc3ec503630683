"""A constant of the kernels that the ledger needs too: it lies apart so that planning does not import numba."""

MLP_PARTS = 8  # partial accumulators of the down projection; fixed, as their number is part of the bits
