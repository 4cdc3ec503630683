"""Compiles the kernels that a model needs, or loads them from the cache. Also a program: see `main`.

Compiling takes some 20 s and more memory than decoding, so it is done once, in a process of its own, before a cell
opens.
"""

import sys
from pathlib import Path

import numba
import numpy as np

from tidemill.actors.compute.kernels import attention, linear, norm
from tidemill.actors.compute.kernels.elements import STORED_DTYPES
from tidemill.actors.compute.kernels.linear_parts import MLP_PARTS
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest


def elements_of(manifest: Manifest) -> tuple[str, ...]:
    """The element types of the matrices: kernels are specialised for them."""
    return tuple(sorted({table.element for table in manifest.tables if table.layout in ("output-row", "neuron")}))


def warm_up(manifest: Manifest, *, threads: int) -> None:
    """Run every kernel once on next to nothing. Raises ValueError for more threads than the process may use."""
    if not 1 <= threads <= numba.config.NUMBA_NUM_THREADS:
        raise ValueError(f"{threads} threads asked for, 1..{numba.config.NUMBA_NUM_THREADS} are possible here")
    numba.set_num_threads(threads)
    x, out = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
    one, none = np.ones(1, np.int64), np.zeros(1, np.int64)
    sums = np.zeros((MLP_PARTS, 1, 4), np.float32)
    cache = np.zeros((1, 2, 4), np.float32)
    for element in elements_of(manifest):
        weights = np.zeros(12, STORED_DTYPES[element])
        linear.row_dot(weights, none, none, one, x, out, threads)
        linear.mlp(weights, none, one, x, sums, False)
    linear.take_sums(sums, out)
    norm.rms_norm(x, x[0], 1e-6, out)
    norm.add(x, out)
    norm.add_bias(x[0], out)
    attention.head_norm(out, 0, 1, x[0], 1e-6)
    attention.rotate(out, 1, np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    attention.store_kv(np.ones((1, 8), np.float32), 0, 0, cache, cache)
    attention.attend(x, 0, cache, cache, 0, 1.0, np.zeros((threads, 2), np.float32), out)


def main(arguments: list[str]) -> int:
    """`python -m tidemill.actors.compute.kernels.warm_up MODEL THREADS`"""
    directory, threads = arguments
    warm_up(load_manifest(Path(directory)), threads=int(threads))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
