"""Kernels that run beside a load, as they do when decoding: what reads take of them, and they of reads."""

import time
from typing import TYPE_CHECKING

import msgspec

from tidemill.runtime.stress.report import LoadFigures

if TYPE_CHECKING:
    from tidemill.runtime.stress.job import JobSurroundings

KIND = "bf16-planes"  # what a bf16 model is stored as
WEIGHT_BYTES = 160 << 20  # more than caches hold, where memory allows
ALONE_S = 1.0


class LoadJob(msgspec.Struct, frozen=True, tag=2):
    """Decoding steps of one position over weights in memory, without an end."""

    threads: int


def run_load(job: LoadJob, surroundings: "JobSurroundings") -> LoadFigures:
    """Raises StoppedError when it is stopped before it began."""
    surroundings.prepare("compiling kernels, once for this machine", 0, 0)
    import numba
    import numpy as np

    from tidemill.runtime.memory import available_bytes
    from tidemill.runtime.tuning.kernel_rates import WEIGHT_BITS, resident_decoder
    from tidemill.runtime.tuning.synthetic_model import plan_synthetic_model

    numba.set_num_threads(job.threads)
    model = plan_synthetic_model(KIND, weight_bytes=min(WEIGHT_BYTES, available_bytes() // 4))
    last = model.extents[-1]
    words = -(-(last.offset + last.bytes) // 4096) * 2048
    arena = np.random.default_rng(0).integers(*WEIGHT_BITS, words, np.uint16).view(np.uint8)
    decoder = resident_decoder(model, arena, context=1, chunk=1, threads=job.threads)
    pass_bytes = model.bytes_of(model.layer_extents)

    def run_until(seconds: float) -> float:
        """Bytes per second until stopped, or so long."""
        begun = time.perf_counter()
        passes = 0
        while (elapsed := time.perf_counter() - begun) < seconds and not surroundings.is_stopped():
            for _ in decoder.step([0], 0, want_logits="none"):
                pass
            passes += 1
        return passes * pass_bytes / elapsed if passes else 0.0

    run_until(ALONE_S / 4)  # compiles, and takes pages
    alone = run_until(ALONE_S)
    surroundings.await_go()
    beside = run_until(float("inf"))
    return LoadFigures(threads=job.threads, kernels=KIND, alone_bytes_per_s=alone, beside_bytes_per_s=beside)
