import subprocess
import sys

import msgspec
import pytest

from tidemill.runtime.environment import child_environment
from tidemill.runtime.kernel_cache import KernelError
from tidemill.runtime.planning.constants import COARSE
from tidemill.runtime.tuning.kernel_rates import (
    BATCHES,
    BUFFER_BYTES_MAX,
    BUFFER_BYTES_MIN,
    DEFAULT_KINDS,
    ComputeRates,
    measure_kernels,
    plan_buffer_bytes,
)

PLENTY = 1 << 40


def test_the_buffer_is_several_times_the_cache_within_bounds_and_memory() -> None:
    assert plan_buffer_bytes(None, PLENTY) == BUFFER_BYTES_MIN
    assert plan_buffer_bytes(64 << 20, PLENTY) == 6 * (64 << 20)
    assert plan_buffer_bytes(1 << 30, PLENTY) == BUFFER_BYTES_MAX
    assert plan_buffer_bytes(64 << 20, 256 << 20) == 64 << 20


@pytest.mark.slow
def test_a_number_of_threads_that_cannot_be_is_an_error_with_its_reason() -> None:
    with pytest.raises(KernelError, match="cannot be measured"):
        measure_kernels(0, DEFAULT_KINDS)


@pytest.mark.slow
def test_dram_and_every_kind_and_batch_have_a_rate_and_the_caller_no_numba() -> None:
    program = (
        "import sys\n"
        "from tidemill.runtime.tuning.kernel_rates import DEFAULT_KINDS, measure_kernels\n"
        "rates = measure_kernels(1, DEFAULT_KINDS, 0.05)\n"
        "assert 'numba' not in sys.modules\n"
        "import msgspec\n"
        "sys.stdout.buffer.write(msgspec.json.encode(rates))\n"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, env=child_environment(1), capture_output=True, check=True)
    rates = msgspec.json.decode(done.stdout, type=ComputeRates)
    assert rates.dram_bytes_per_s > 0
    assert rates.kernels.bytes_per_s.keys() == {*DEFAULT_KINDS, "bf16-planes" + COARSE}
    assert rates.kernels.flop_per_s.keys() == set(BATCHES)
    # No kernel reads faster than reading alone can, but for what the cache holds and what disturbed the measurement.
    assert max(rates.kernels.bytes_per_s.values()) < 3 * rates.dram_bytes_per_s
