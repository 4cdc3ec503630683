"""Compiles the kernels that a model needs, or loads them from the cache. Also a program: see `main`.

Compiling takes some 20 s and more memory than decoding, so it is done once, in a process of its own, before a cell
opens.
"""

import sys
from pathlib import Path
from types import MappingProxyType

import numba
import numpy as np

from tidemill.actors.compute.kernels import (
    attention,
    bundle_linear,
    bundle_neurons,
    coarse_linear,
    gates,
    linear,
    norm,
    plane_linear,
    row_range,
    two_phase,
)
from tidemill.actors.compute.kernels.elements import STORED_DTYPES
from tidemill.actors.compute.kernels.linear_parts import (
    JOINED_CHANNELS,
    JOINED_NEURONS,
    KEY_BLOCK,
    MLP_PARTS,
    NEURON_BLOCK,
    attention_scratch_floats,
)
from tidemill.actors.compute.kernels.needed import CHANNELS, NEURONS, needed_kernels
from tidemill.storage.codecs.planes import BLOCK
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

EPS = np.float32(1e-6)
PLANES_OF = MappingProxyType({"bf16-planes": np.uint32, "fp16-planes": np.int16})  # codec -> what rows are joined to
PLANE_0_OF = MappingProxyType({"bf16-planes": np.uint8, "fp16-planes": np.int8})  # codec -> what its bytes are


def _warm_planes(kind: str, threads: int) -> None:
    arena, words = np.zeros(4 * BLOCK, np.uint8), np.zeros(BLOCK, np.uint32)
    offsets, starts, stops = np.array([0, BLOCK]), np.zeros(2, np.int64), np.ones(2, np.int64)
    x, out = np.ones((1, BLOCK), np.float32), np.zeros((1, 1), np.float32)
    sums, neurons = np.zeros((MLP_PARTS, 1, BLOCK), np.float32), np.zeros((MLP_PARTS, 64), np.float32)
    joined = np.zeros((threads, 3 * JOINED_NEURONS * BLOCK // 2), np.uint32).view(PLANES_OF[kind])
    table = arena, words, offsets, starts, starts, stops, 0, 2
    plane_linear.row_dot_planes(*table, x, joined, out, threads)
    plane_linear.mlp_planes(*table[:5], starts, 0, 2, x, joined, neurons, sums, False)  # no neurons: nothing to follow


def _warm_coarse(kind: str, threads: int) -> None:
    arena, zero = np.zeros(4 * BLOCK, np.uint8).view(PLANE_0_OF[kind]), np.zeros(2, np.int64)
    x, out = np.ones((1, BLOCK), np.float32), np.zeros((1, 1), np.float32)
    sums, neurons = np.zeros((MLP_PARTS, 1, BLOCK), np.float32), np.zeros((MLP_PARTS, 12), np.float32)
    coarse_linear.row_dot_coarse(arena, zero, zero, zero, np.ones(2, np.int64), 0, 2, x, out, threads)
    coarse_linear.mlp_coarse(arena, zero, zero, zero, zero, 0, 2, x, neurons, sums, False)


def _warm_bundles(kernel: str, threads: int) -> None:
    """Lists of no bundles: nothing to follow."""
    kind = kernel.removesuffix(CHANNELS).removesuffix(NEURONS)
    coded = kind == "bf16-bundles"
    nothing = np.zeros(0, np.int64)
    arena = np.zeros(BLOCK, np.uint8).view(np.uint8 if coded else STORED_DTYPES[kind])
    joined = np.zeros((threads, 3 * JOINED_NEURONS * BLOCK), np.uint32 if coded else arena.dtype)
    lists = arena, np.zeros(BLOCK, np.uint32), nothing, nothing, 0, 0
    x, sums = np.ones((1, BLOCK), np.float32), np.zeros((MLP_PARTS, 2, BLOCK), np.float32)
    activated, factors = np.ones((1, BLOCK), np.float32), np.ones((1, 1, BLOCK), np.float32)
    if kernel.endswith(NEURONS):
        scratch = np.zeros((MLP_PARTS, 3 * JOINED_NEURONS), np.float32)
        bundle_neurons.add_neurons(*lists, 3, x, activated, joined, scratch, sums, False)
    else:
        gathered = np.zeros((threads, JOINED_CHANNELS), np.float32)
        bundle_linear.add_channels(*lists, np.array([BLOCK]), factors, 1, joined, gathered, sums, 0, BLOCK, threads)
        gates.activate_halves(np.ones((1, 2 * BLOCK), np.float32), activated, False)
        bundle_linear.close_parts(sums, x)
        bundle_linear.close_parts(sums, np.ones((2, 2 * BLOCK), np.float32)[:, :BLOCK])  # a window of wider rows
    gates.activate_gates(activated, False)


def _warm_selection(kind: str, threads: int) -> None:
    """The kernels of steps that select, on a table of no neurons and one row."""
    zero, x = np.zeros(2, np.int64), np.ones((1, BLOCK), np.float32)
    gate, ups = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
    out, sums = np.zeros((1, 1), np.float32), np.zeros((MLP_PARTS, 1, BLOCK), np.float32)
    joined = np.zeros((threads, 3 * JOINED_NEURONS * BLOCK // 2), np.uint32)
    if kind in PLANES_OF:
        rows = joined.view(PLANES_OF[kind])
        table = np.zeros(4 * BLOCK, np.uint8), np.zeros(BLOCK, np.uint32), zero, zero, zero, zero, 0, 2
        two_phase.neurons_planes(*table, x, x, rows, gate, ups, False)
        two_phase.add_downs_planes(*table, ups, 1, rows, sums)
        row_range.row_dot_range_planes(*table, x, rows, out, threads, 0, 1)
    else:
        weights = np.zeros(BLOCK, STORED_DTYPES[kind])
        two_phase.neurons(weights, zero, zero, zero, 0, 1, x, x, joined.view(weights.dtype), gate, ups, False)
        two_phase.add_downs(weights, zero, zero, zero, 0, 1, ups, 1, sums)
        row_range.row_dot_range(weights, zero, zero, zero, 0, 1, x, out, threads, 0, 1)


def warm_kind(kind: str, threads: int, *, selects: bool = False, draft_planes: bool = False) -> None:
    """The kernels of one of `needed_kernels`, run once on next to nothing."""
    if kind.endswith((CHANNELS, NEURONS)):
        _warm_bundles(kind, threads)
        return
    if selects:
        _warm_selection(kind, threads)
    if kind in PLANES_OF:
        _warm_planes(kind, threads)
        if draft_planes:
            _warm_coarse(kind, threads)
        return
    one, x, out = np.ones(1, np.int64), np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
    zero, weights = np.zeros(1, np.int64), np.zeros(12, STORED_DTYPES[kind])
    sums, neurons = np.zeros((MLP_PARTS, 1, 4), np.float32), np.zeros((MLP_PARTS, 3 * NEURON_BLOCK), np.float32)
    linear.row_dot(weights, zero, zero, one, 0, 1, x, out, threads)
    linear.mlp(weights, zero, zero, one, 0, 1, x, neurons, sums, False)


def warm_steps(threads: int) -> None:
    """The kernels of every model."""
    x, out, sums = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32), np.zeros((MLP_PARTS, 1, 4), np.float32)
    norm.norm_rows(x, x[0], EPS, out)
    norm.close_branch(MLP_PARTS, sums, out, x[0], x[0], x, x[0], out, EPS)
    angles, scratch = np.ones((1, 2), np.float32), np.zeros((threads, attention_scratch_floats(1, 4, 1)), np.float32)
    keys, values = np.zeros((1, 1, 4, KEY_BLOCK), np.float32), np.zeros((1, KEY_BLOCK, 4), np.float32)
    attention.attend(
        np.ones((1, 12), np.float32), 0, angles, angles, x[0, :0], x[0], x[0], EPS,
        keys, values, 0, np.float32(1.0), scratch, np.ones(KEY_BLOCK, np.float32), out,
    )  # fmt: skip


def warm_up(manifest: Manifest, *, threads: int, selects: bool = False, draft_planes: bool = False) -> None:
    """Run every kernel once on next to nothing; those of steps that select only if `selects`, those of drafts with
    plane 0 only if `draft_planes`.

    Raises ValueError for more threads than the process may use.
    """
    if not 1 <= threads <= numba.config.NUMBA_NUM_THREADS:
        raise ValueError(f"{threads} threads asked for, 1..{numba.config.NUMBA_NUM_THREADS} are possible here")
    numba.set_num_threads(threads)
    for kind in needed_kernels(manifest):
        warm_kind(kind, threads, selects=selects, draft_planes=draft_planes)
    warm_steps(threads)


def main(arguments: list[str]) -> int:
    """`python -m tidemill.actors.compute.kernels.warm_up MODEL THREADS [selects] [drafts]`"""
    directory, threads, *more = arguments
    manifest = load_manifest(Path(directory))
    warm_up(manifest, threads=int(threads), selects="selects" in more, draft_planes="drafts" in more)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
