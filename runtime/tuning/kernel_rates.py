"""Measures DRAM and the decoder on weights that exist nowhere. It does so in a process of its own: the caller neither
imports numba nor holds the weights. The only module of tuning and planning that knows the decoder."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tidemill.runtime.environment import child_environment
from tidemill.runtime.kernel_cache import COMPILE_DEADLINE_S, KernelError
from tidemill.runtime.memory import available_bytes
from tidemill.runtime.planning.constants import COARSE
from tidemill.runtime.planning.rates import KernelRates
from tidemill.runtime.tuning.machine import last_level_cache_bytes
from tidemill.runtime.tuning.synthetic_model import exception_lists, plan_synthetic_model, set_bundles
from tidemill.storage.arena_plan import has_planes, plane_bytes
from tidemill.storage.bundle_places import BundlePlaces
from tidemill.storage.bundle_plan import bundle_tables
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tidemill.actors.compute.decoder import Decoder

BATCHES = (2, 4, 8, 16, 32, 128)  # up to 16: checks of drafts
DEFAULT_KINDS = ("bf16-planes", "bf16")  # where no model says which kernels will be used; each is compiled once
CACHE_MULTIPLE = 6  # of the last-level cache: what is read comes from DRAM
BUFFER_BYTES_MIN = 192 << 20
BUFFER_BYTES_MAX = 1 << 30
AVAILABLE_SHARE = 0.25
BATCH_SHARE = 0.25  # of the buffer that batches are measured on: they are bound by arithmetic, not by DRAM
SECONDS = 0.7  # per rate; the best of its runs counts, as the others were disturbed
WEIGHT_BITS = (0x3C00, 0x3C80)  # 0.0078 to 0.0156 as bf16, about 1 as f16: nothing becomes infinite or subnormal


class ComputeRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the child prints."""

    dram_bytes_per_s: float
    kernels: KernelRates


def measure_kernels(threads: int, kinds: Sequence[str], seconds: float = SECONDS) -> ComputeRates:
    """DRAM and kernel rates of this machine with `threads` threads, in a child process: some 8 s at the `seconds` that
    each rate takes by default, and a compilation where kernels are not in the cache. `kinds` are those of `Table.kind`;
    batches are measured on the first.

    Raises KernelError.
    """
    program = [sys.executable, "-P", "-m", "tidemill.runtime.tuning.kernel_rates"]
    command = [*program, str(threads), str(seconds), *kinds]
    try:
        done = subprocess.run(
            command, env=child_environment(threads), capture_output=True, timeout=COMPILE_DEADLINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"the kernels cannot be measured: {error}") from error
    if done.returncode != 0:
        text = done.stderr.decode(errors="replace")[-2000:]
        raise KernelError(f"the kernels cannot be measured (exit status {done.returncode}):\n{text}")
    return msgspec.json.decode(done.stdout, type=ComputeRates)


def plan_buffer_bytes(cache_bytes: int | None, available: int) -> int:
    """Several times the last-level cache, between bounds, and at most a quarter of the memory that is left."""
    wanted = max(BUFFER_BYTES_MIN, CACHE_MULTIPLE * (cache_bytes or 0))
    return min(wanted, BUFFER_BYTES_MAX, int(available * AVAILABLE_SHARE)) // 4096 * 4096


def main(arguments: list[str]) -> int:
    """`python -m tidemill.runtime.tuning.kernel_rates THREADS SECONDS KIND…`: prints ComputeRates as JSON."""
    threads, seconds, *kinds = arguments
    buffer_bytes = plan_buffer_bytes(last_level_cache_bytes(), available_bytes())
    rates = _measure(int(threads), kinds, buffer_bytes, float(seconds))
    sys.stdout.buffer.write(msgspec.json.encode(rates))
    return 0


def _measure(threads: int, kinds: Sequence[str], buffer_bytes: int, seconds: float) -> ComputeRates:
    import numba
    import numpy as np

    from tidemill.actors.compute.kernels.read_words import read_words

    numba.set_num_threads(threads)
    models = {kind: plan_synthetic_model(kind, weight_bytes=buffer_bytes) for kind in kinds}
    bits = np.random.default_rng(0).integers(*WEIGHT_BITS, max(map(_arena_bytes, models.values())) // 2, np.uint16)
    arena = bits.view(np.uint8)
    words, sums = arena.view(np.uint64), np.zeros(threads, np.uint64)
    dram_s = _best_seconds(lambda: read_words(words, sums), seconds)
    bytes_per_s: dict[str, float] = {
        kind: _weight_bytes(model) / _pass_seconds(model, arena, 1, threads, seconds) for kind, model in models.items()
    }
    for kind, model in models.items():
        if has_planes(model):
            bytes_per_s[kind + COARSE] = plane_bytes(model, 0) / _draft_seconds(model, arena, threads, seconds)
    small = plan_synthetic_model(kinds[0], weight_bytes=int(buffer_bytes * BATCH_SHARE))
    weights = sum(t.bundle_count * t.bundle_elements for t in small.tables if t.layer >= 0 and t.layout != "vector")
    flop_per_s = {
        batch: 2 * batch * weights / _pass_seconds(small, arena, batch, threads, seconds) for batch in BATCHES
    }
    return ComputeRates(arena.nbytes / dram_s, KernelRates(bytes_per_s=bytes_per_s, flop_per_s=flop_per_s))


def resident_decoder(
    manifest: Manifest, arena: "npt.NDArray[np.uint8]", *, context: int, chunk: int, threads: int
) -> "Decoder":
    from tidemill.actors.compute.decoder import Decoder
    from tidemill.actors.compute.placement import Placement

    for place in exception_lists(manifest):
        arena[place] = 0  # kernels follow what is written there
    set_bundles(manifest, arena)
    placement = Placement(len(manifest.extents))
    placement.offsets[:] = [extent.offset for extent in manifest.extents]
    return Decoder(manifest, arena, placement, context=context, chunk=chunk, threads=threads, row_slots=1)


def _draft_seconds(manifest: Manifest, arena: "npt.NDArray[np.uint8]", threads: int, seconds: float) -> float:
    """Kernel seconds of one drafted token: plane 0 of all layers and the head."""
    decoder = resident_decoder(manifest, arena, context=2, chunk=1, threads=threads)
    for _ in decoder.step([0], 0, want_logits="none"):  # loads the vectors
        pass

    def run() -> float:
        before_ns = decoder.kernel_ns
        for _ in decoder.draft_step(0, 1):
            pass
        return (decoder.kernel_ns - before_ns) / 1e9

    return _best_seconds(run, seconds)


def _pass_seconds(
    manifest: Manifest, arena: "npt.NDArray[np.uint8]", batch: int, threads: int, seconds: float
) -> float:
    """Kernel seconds of one pass of `batch` positions over all layers, without the head."""
    import numpy as np

    from tidemill.actors.compute.step_events import BundlesNeeded

    decoder = resident_decoder(manifest, arena, context=batch, chunk=batch, threads=threads)
    places = {TableId(i): BundlePlaces(manifest, TableId(i)) for i in bundle_tables(manifest)}

    def run() -> float:
        before_ns = decoder.kernel_ns
        step, answer = decoder.step(range(batch), 0, want_logits="none"), None
        while True:
            try:
                event = step.send(answer)
            except StopIteration:
                break
            answer = None
            if isinstance(event, BundlesNeeded):
                answer = places[event.table].find(event.bundles.astype(np.int64)).offsets
        return (decoder.kernel_ns - before_ns) / 1e9

    return _best_seconds(run, seconds)


def _weight_bytes(manifest: Manifest) -> int:
    return manifest.bytes_of(manifest.layer_extents)


def _arena_bytes(manifest: Manifest) -> int:
    last = manifest.extents[-1]
    return -(-(last.offset + last.bytes) // 4096) * 4096


def _best_seconds(run: Callable[[], float | None], seconds: float) -> float:
    """The quickest of the runs that fit `seconds`, two at least; the first, which compiles, does not count. A run may
    tell its own time."""
    run()
    best, runs, until = float("inf"), 0, time.perf_counter() + seconds
    while runs < 2 or time.perf_counter() < until:
        begun = time.perf_counter()
        own_s = run()
        best = min(best, time.perf_counter() - begun if own_s is None else own_s)
        runs += 1
    return best


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
