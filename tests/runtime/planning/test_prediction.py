from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.rates import RATES, flat_rates
from tidemill.runtime.planning.constants import (
    COLD_START_S,
    LAYER_OVERHEAD_S,
    LOAD_AHEAD_S,
    READ_CORE_S,
    TOKEN_OVERHEAD_S,
)
from tidemill.runtime.planning.prediction import RunShape, predict
from tidemill.runtime.planning.workload import Work, Workload

MIB = 1 << 20
SHAPE = RunShape(prompt_tokens=100, chunk=64, position=0, io_depth=4, threads=2)


def work(streamed: int, *, total: int, codec: str = "raw") -> Work:
    """`total` extents of 1 MiB of bf16, of which `streamed` are streamed."""
    return Work(
        read_sizes=(MIB,) * streamed,
        decoded_bytes={codec: streamed * MIB} if streamed else {},
        weight_bytes={"bf16": total * MIB},
        weights=total * MIB // 2,
    )


def model(streamed: int, *, ring: int = 24, codec: str = "raw") -> Workload:
    """900 MiB of layers and 100 MiB of head; the head is locked."""
    return Workload(
        layers=work(streamed, total=900, codec=codec),
        head=work(0, total=100),
        layer_count=10,
        load_sizes=(MIB,) * (1000 - streamed),
        row_bytes=0,
        ring_bytes=ring * MIB if streamed else 0,
        kv_bytes_per_position=1 << 16,
        attention_flop_per_pair=1 << 16,
    )


COMPUTE_S = 1000 * MIB / 20e9 + 10 * LAYER_OVERHEAD_S  # of the resident model at position 0


def test_a_resident_model_takes_its_compute_time() -> None:
    prediction = predict(model(0), RATES, SHAPE)
    assert prediction.io_s_per_token == 0.0
    assert prediction.decode_s_per_token == pytest.approx(COMPUTE_S + TOKEN_OVERHEAD_S)
    assert prediction.decode_tokens_per_s == pytest.approx(1 / prediction.decode_s_per_token)
    assert prediction.bottleneck == "compute"


def test_a_model_that_streams_takes_its_reading_time() -> None:
    prediction = predict(model(900), flat_rates(1e9), SHAPE)
    assert prediction.decode_s_per_token == pytest.approx(900 * MIB / 1e9)
    assert prediction.bottleneck == "flash"


def test_without_a_ring_the_drive_rests_between_two_tokens() -> None:
    with_ring, without = (predict(model(900, ring=ring), flat_rates(1e9), SHAPE) for ring in (24, 0))
    lost_s = without.decode_s_per_token - with_ring.decode_s_per_token
    assert lost_s == pytest.approx(TOKEN_OVERHEAD_S)


def test_reads_take_core_time_from_the_kernels() -> None:
    prediction = predict(model(50), flat_rates(100e9), SHAPE)
    assert prediction.bottleneck == "compute"
    assert prediction.compute_s_per_token == pytest.approx(COMPUTE_S + 50 * READ_CORE_S / 2)


def test_attention_reads_the_cache_of_every_position_before() -> None:
    at_0, at_1000 = (predict(model(0), RATES, replace(SHAPE, position=at)) for at in (0, 1000))
    more_s = at_1000.decode_s_per_token - at_0.decode_s_per_token
    assert more_s == pytest.approx(1000 * (1 << 16) / RATES.dram_bytes_per_s)


def test_a_codec_that_the_reader_undoes_bounds_a_fast_drive() -> None:
    raw, packed = (predict(model(900, codec=codec), flat_rates(50e9), SHAPE) for codec in ("raw", "zstd"))
    assert packed.io_s_per_token == pytest.approx(900 * MIB / 1e9 / 2)  # 1 GB/s on each of two threads
    assert raw.io_s_per_token < packed.io_s_per_token / 2


@given(few=st.integers(0, 899), more=st.integers(1, 100), rate=st.floats(1e7, 1e11))
def test_streaming_less_is_never_slower(few: int, more: int, rate: float) -> None:
    many = min(900, few + more)
    less, rest = (predict(model(count), flat_rates(rate), SHAPE) for count in (few, many))
    assert less.decode_s_per_token <= rest.decode_s_per_token * (1 + 1e-9)


@given(streamed=st.integers(0, 900), rate=st.floats(1e7, 1e11), faster=st.floats(1.0, 100.0))
def test_a_faster_drive_is_never_slower(streamed: int, rate: float, faster: float) -> None:
    slow, fast = (predict(model(streamed), flat_rates(r), SHAPE) for r in (rate, rate * faster))
    assert fast.decode_s_per_token <= slow.decode_s_per_token * (1 + 1e-9)
    assert fast.first_token_s <= slow.first_token_s * (1 + 1e-9)


@given(streamed=st.integers(0, 900), rate=st.floats(1e7, 1e11))
def test_no_prediction_is_below_the_floor(streamed: int, rate: float) -> None:
    prediction = predict(model(streamed), flat_rates(rate), SHAPE)
    assert prediction.floor_s_per_token <= prediction.decode_s_per_token * (1 + 1e-9)


def test_fewer_threads_than_measured_compute_slower_and_more_do_not_compute_faster() -> None:
    one, two, four = (predict(model(0), RATES, replace(SHAPE, threads=count)) for count in (1, 2, 4))
    assert one.compute_s_per_token > two.compute_s_per_token == four.compute_s_per_token


def test_the_first_chunk_waits_for_what_is_locked_and_each_further_one_for_what_is_streamed() -> None:
    slow = flat_rates(0.1e9)  # so slow that computing hides behind it
    prediction = predict(model(500), slow, replace(SHAPE, prompt_tokens=130))
    seconds = (1000 + 500 + 500) * MIB / 0.1e9 - LOAD_AHEAD_S + TOKEN_OVERHEAD_S
    assert prediction.prompt_s == pytest.approx(seconds)
    assert prediction.first_token_s == pytest.approx(seconds + COLD_START_S)
    assert prediction.load_bytes == 500 * MIB


def test_a_resident_prompt_is_bound_by_arithmetic() -> None:
    fast = flat_rates(1e15)
    shape = replace(SHAPE, prompt_tokens=128, chunk=128)
    flop = 2 * 900 * MIB // 2 * 128 + 128 * 129 // 2 * (1 << 16)
    head_s, layers_s = 100 * MIB / 20e9, flop / 120e9 + 10 * LAYER_OVERHEAD_S
    assert predict(model(0), fast, shape).prompt_s == pytest.approx(layers_s + head_s + TOKEN_OVERHEAD_S)


def test_a_kind_of_weights_has_its_own_rate() -> None:
    layers = msgspec.structs.replace(RATES.kernels, bytes_per_s={"bf16": 20e9, "bf16-planes": 15e9})
    planes = replace(work(0, total=900), weight_bytes={"bf16-planes": 675 * MIB})
    workload = replace(model(0), layers=planes)
    rates = msgspec.structs.replace(RATES, kernels=layers)
    expected_s = 675 * MIB / 15e9 + 100 * MIB / 20e9 + 10 * LAYER_OVERHEAD_S
    assert predict(workload, rates, SHAPE).compute_s_per_token == pytest.approx(expected_s)
