"""Kernels over bundles that lie anywhere: near float64, and of bits that hang on nothing but the active bundles."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pytest

from tests.contracts.kernels import U
from tests.fakes.bundles import coded_bundles, raw_bundles, scatter
from tidemill.actors.compute.kernels import bundle_linear, bundle_neurons
from tidemill.actors.compute.kernels.elements import STORED_DTYPES, widen_array
from tidemill.actors.compute.kernels.linear_parts import JOINED_CHANNELS, JOINED_NEURONS, MLP_PARTS
from tidemill.storage.manifest import Element

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
CHANNELS, BATCH, SIZE = 421, 33, 192
SEGMENTS = (192, 64, 128)
EXCEPTIONS = 200  # that a bundle has room for
Kind = Literal["bf16-bundles", "bf16", "f16", "f32"]
KINDS: Sequence[Kind] = ("bf16-bundles", "bf16", "f16", "f32")
pytestmark = pytest.mark.slow  # kernels are compiled


class Bundles(NamedTuple):
    """A table's bundles somewhere in an arena, and their weights as f64."""

    weights: npt.NDArray[np.generic]  # the arena, of the dtype that names the codec
    words: npt.NDArray[np.uint32]
    places: I64
    values: npt.NDArray[np.float64]


def bf16_weights(count: int, sizes: Sequence[int]) -> npt.NDArray[np.uint16]:
    """With exceptions at the borders of segments and blocks, whole blocks of them, and zeros."""
    values = np.random.default_rng(1).standard_normal((count, sum(sizes))).astype(np.float32)
    borders = np.cumsum([0, *sizes])
    values[:, borders[:-1]] = 1e-12
    values[::2, borders[1:] - 1] = -1e-9
    values[::3, borders[:-1] + 63] = 1e9
    values[3, 64:128] *= np.float32(1e-20)
    values[5] = 0.0
    values[7, ::2] = -0.0
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def make(kind: Kind, count: int, sizes: Sequence[int], seed: int = 3) -> Bundles:
    words = bf16_weights(count, sizes)
    exact = widen_array(words.reshape(-1).view(np.uint8), "bf16").reshape(words.shape)
    element: Element = "bf16" if kind == "bf16-bundles" else kind
    if kind == "bf16-bundles":
        arena, places = scatter(coded_bundles(words, sizes, EXCEPTIONS), seed)
        return Bundles(arena, arena.view(np.uint32), places, exact.astype(np.float64))
    stored = {"bf16": words, "f16": exact.clip(-60000, 60000).astype(np.float16), "f32": exact}[kind]
    arena, places = scatter(raw_bundles(stored, element, sizes), seed)
    values = widen_array(stored.reshape(-1).view(np.uint8), element).reshape(words.shape)
    return Bundles(arena.view(STORED_DTYPES[element]), arena.view(np.uint32), places, values.astype(np.float64))


def joined_for(kind: Kind, weights: int) -> npt.NDArray[np.generic]:
    if kind == "bf16-bundles":
        return np.zeros((2, weights // 2), np.uint32)
    return np.zeros((2, weights), STORED_DTYPES[kind])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def active() -> I64:
    """Nine channels of ten; some parts have more of them than are joined at a time."""
    ids = np.flatnonzero(np.random.default_rng(2).random(CHANNELS) < 0.9)
    assert len(ids) > JOINED_CHANNELS
    return ids


def factors_for(ids: I64, segments: int) -> F32:
    """A third of them masked, differently for every segment and position."""
    rng = np.random.default_rng(4)
    factors = rng.standard_normal((segments, BATCH, CHANNELS)).astype(np.float32)
    factors[rng.random(factors.shape) < 0.3] = 0.0
    return np.ascontiguousarray(factors[:, :, ids])


def add_channels(
    kind: Kind, table: Bundles, ids: I64, factors: F32, *, parts: int = MLP_PARTS, slices: int = 1,
    cuts: Sequence[int] = (), sizes: Sequence[int] = SEGMENTS, places: I64 | None = None, window: int = 0,
) -> F32:  # fmt: skip
    """The output rows, of a list handed over in calls that are cut at `cuts`, `window` columns at a time (0: all)."""
    batch, width = factors.shape[1], sum(sizes)
    sums = np.zeros((parts, batch + 2, (window or width) + 64), np.float32)
    gathered = np.zeros((2, len(sizes) * batch * JOINED_CHANNELS), np.float32)
    joined = joined_for(kind, 20 * sum(sizes))
    found = table.places[ids] if places is None else places
    edges = [0, *cuts, len(ids)]
    out = np.full((batch, width), np.nan, np.float32)
    for begin in range(0, width, window or width):
        end = min(begin + (window or width), width)
        for first, last in pairwise(edges):
            bundle_linear.add_channels(
                table.weights, table.words, found, ids, first, last, np.array(sizes), factors, batch, joined, gathered,
                sums, begin, end, slices,
            )  # fmt: skip
        bundle_linear.close_parts(sums, out[:, begin:end])
        assert not sums.any()
    return out


def position(factors: F32, b: int) -> F32:
    return np.ascontiguousarray(factors[:, b : b + 1])


def test_channels_are_near_float64(kind: Kind, active: I64) -> None:
    table, factors = make(kind, CHANNELS, SEGMENTS), factors_for(active, 3)
    got = add_channels(kind, table, active, factors)
    borders = np.cumsum([0, *SEGMENTS])
    for segment in range(3):
        columns = slice(borders[segment], borders[segment + 1])
        wide, rows = factors[segment].astype(np.float64), table.values[active][:, columns]
        # |error| <= γ_K Σ|w·x| for any order of summation (Higham, Accuracy and Stability, section 3.1)
        bound = CHANNELS * U / (1 - CHANNELS * U) * (np.abs(wide) @ np.abs(rows)) + 1e-44
        assert np.all(np.abs(got[:, columns] - wide @ rows) <= bound)


@pytest.mark.parametrize("parts", [1, MLP_PARTS])
def test_channels_of_a_batch_have_the_bits_of_single_positions(kind: Kind, active: I64, parts: int) -> None:
    table, factors = make(kind, CHANNELS, SEGMENTS), factors_for(active, 3)
    single = [add_channels(kind, table, active, position(factors, b), parts=parts) for b in range(BATCH)]
    for batch in (2, 3, 4, 7, 8, 32, 33):
        got = add_channels(kind, table, active, np.ascontiguousarray(factors[:, :batch]), parts=parts)
        assert np.array_equal(got, np.concatenate(single[:batch])), batch


@pytest.mark.parametrize("batch", [1, 5])
def test_channels_do_not_depend_on_calls_places_slices_and_threads(kind: Kind, active: I64, batch: int) -> None:
    table, factors = make(kind, CHANNELS, SEGMENTS), np.ascontiguousarray(factors_for(active, 3)[:, :batch])
    expected = add_channels(kind, table, active, factors)
    for cuts in ([1], [0, 9, 9, 200], [len(active) - 1]):
        assert np.array_equal(add_channels(kind, table, active, factors, cuts=cuts), expected)
    for slices in (2, 3, 6, 40):
        assert np.array_equal(add_channels(kind, table, active, factors, slices=slices), expected)
    for window in (64, 128, 192):
        assert np.array_equal(add_channels(kind, table, active, factors, window=window), expected)
    elsewhere = make(kind, CHANNELS, SEGMENTS, seed=9)
    assert np.array_equal(add_channels(kind, elsewhere, active, factors), expected)
    numba.set_num_threads(1)
    try:
        assert np.array_equal(add_channels(kind, table, active, factors, slices=3), expected)
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_masked_channel_is_the_same_as_one_that_is_not_listed(kind: Kind, active: I64, batch: int) -> None:
    table, factors = make(kind, CHANNELS, SEGMENTS), np.ascontiguousarray(factors_for(active, 3)[:, :batch])
    factors[:, :, ::2] = 0.0
    few, listed = np.ascontiguousarray(factors[:, :, 1::2]), np.ascontiguousarray(active[1::2])
    assert np.array_equal(add_channels(kind, table, active, factors), add_channels(kind, table, listed, few))


@pytest.mark.parametrize("batch", [1, 3])
def test_no_channel_adds_nothing_and_one_adds_itself(kind: Kind, batch: int) -> None:
    table, factors = make(kind, CHANNELS, SEGMENTS), np.full((3, batch, 1), 2.0, np.float32)
    nothing = np.zeros(0, np.int64)
    assert not add_channels(kind, table, nothing, factors[:, :, :0].copy()).any()
    got = add_channels(kind, table, np.array([11]), factors)
    assert np.array_equal(got, np.repeat(2 * table.values[11:12].astype(np.float32), batch, axis=0))


@pytest.mark.parametrize("batch", [1, 2, 33])
def test_coded_channels_have_the_bits_of_raw_ones(active: I64, batch: int) -> None:
    factors = np.ascontiguousarray(factors_for(active, 3)[:, :batch])
    coded, raw = (add_channels(kind, make(kind, CHANNELS, SEGMENTS), active, factors) for kind in KINDS[:2])
    assert np.array_equal(coded, raw)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_raw_segments_may_have_any_size(batch: int) -> None:
    sizes = (33, 71, 5)
    table = make("f32", CHANNELS, (64, 64))
    values = table.values[:, : sum(sizes)]
    arena, places = scatter(raw_bundles(values.astype(np.float32), "f32", sizes), 1)
    table = Bundles(arena.view(np.float32), arena.view(np.uint32), places, values)
    ids = np.arange(CHANNELS)
    factors = np.ones((3, batch, CHANNELS), np.float32)
    got = add_channels("f32", table, ids, factors, sizes=sizes, slices=2)
    assert np.all(np.abs(got - values.sum(0)) <= CHANNELS * U * np.abs(values).sum(0) * 1.01)


def add_neurons(
    kind: Kind, table: Bundles, ids: I64, x: F32, gates: F32, rows: int, *, cuts: Sequence[int] = ()
) -> F32:  # fmt: skip
    batch = len(x)
    sums = np.zeros((MLP_PARTS, batch + 2, SIZE), np.float32)
    scratch = np.zeros((MLP_PARTS, 3 * JOINED_NEURONS * batch), np.float32)
    edges = [0, *cuts, len(ids)]
    for first, last in pairwise(edges):
        bundle_neurons.add_neurons(
            table.weights, table.words, table.places[ids], ids, first, last, rows, x, gates,
            joined_for(kind, 9 * rows * SIZE), scratch, sums, False,
        )  # fmt: skip
    out = np.full((batch, SIZE), np.nan, np.float32)
    bundle_linear.close_parts(sums, out)
    return out


@pytest.fixture
def x() -> F32:
    return np.random.default_rng(6).standard_normal((BATCH, SIZE)).astype(np.float32)


def gates_for(ids: I64) -> F32:
    gates = np.random.default_rng(7).standard_normal((BATCH, len(ids))).astype(np.float32)
    gates[np.abs(gates) < 0.5] = 0.0
    return gates


@pytest.mark.parametrize("rows", [2, 3])
def test_neurons_are_near_float64(kind: Kind, active: I64, x: F32, rows: int) -> None:
    table, gates = make(kind, CHANNELS, (SIZE,) * rows), gates_for(active)
    x = x * np.float32(1e-3)
    got = add_neurons(kind, table, active, x, gates, rows)
    wide, parts = x.astype(np.float64), table.values[active].reshape(len(active), rows, SIZE)
    up, down = wide @ parts[:, -2].T, parts[:, -1]
    magnitude = np.abs(wide) @ np.abs(parts[:, -2]).T
    gate = gates.astype(np.float64)
    if rows == 3:
        dots = wide @ parts[:, 0].T
        gate = np.where(gates == 0, 0.0, dots / (1 + np.exp(-np.maximum(dots, -700))))
        size_of_gate = np.where(gates == 0, 0.0, np.abs(wide) @ np.abs(parts[:, 0]).T + 1)
    else:
        size_of_gate = np.abs(gate)
    # as tests/contracts/kernels.py: two dot products of SIZE, an activation, a sum of CHANNELS terms
    bound = (2 * SIZE + CHANNELS + 16) * U * 2 * (size_of_gate * magnitude @ np.abs(down)) + 1e-40
    assert np.all(np.abs(got - gate * up @ down) <= bound)


@pytest.mark.parametrize("rows", [2, 3])
def test_neurons_of_a_batch_have_the_bits_of_single_positions(kind: Kind, active: I64, x: F32, rows: int) -> None:
    table, gates = make(kind, CHANNELS, (SIZE,) * rows), gates_for(active)
    single = [add_neurons(kind, table, active, x[b : b + 1], gates[b : b + 1], rows) for b in range(BATCH)]
    for batch in (2, 3, 4, 7, 8, 32, 33):
        got = add_neurons(kind, table, active, x[:batch], gates[:batch], rows)
        assert np.array_equal(got, np.concatenate(single[:batch])), batch


@pytest.mark.parametrize("rows", [2, 3])
@pytest.mark.parametrize("batch", [1, 5])
def test_neurons_do_not_depend_on_calls_and_places(kind: Kind, active: I64, x: F32, rows: int, batch: int) -> None:
    table, gates = make(kind, CHANNELS, (SIZE,) * rows), gates_for(active)
    expected = add_neurons(kind, table, active, x[:batch], gates[:batch], rows)
    assert expected.any()
    for cuts in ([1], [0, 9, 9, 200], [len(active) - 1]):
        assert np.array_equal(add_neurons(kind, table, active, x[:batch], gates[:batch], rows, cuts=cuts), expected)
    elsewhere = make(kind, CHANNELS, (SIZE,) * rows, seed=9)
    assert np.array_equal(add_neurons(kind, elsewhere, active, x[:batch], gates[:batch], rows), expected)


@pytest.mark.parametrize("rows", [2, 3])
@pytest.mark.parametrize("batch", [1, 2, 33])
def test_coded_neurons_have_the_bits_of_raw_ones(active: I64, x: F32, rows: int, batch: int) -> None:
    gates = gates_for(active)[:batch]
    coded, raw = (
        add_neurons(kind, make(kind, CHANNELS, (SIZE,) * rows), active, x[:batch], gates, rows) for kind in KINDS[:2]
    )
    assert np.array_equal(coded, raw)


@pytest.mark.parametrize("batch", [1, 3])
def test_without_gates_every_listed_neuron_is_active(kind: Kind, active: I64, x: F32, batch: int) -> None:
    table = make(kind, CHANNELS, (SIZE,) * 3)
    everywhere = np.ones((batch, len(active)), np.float32)
    expected = add_neurons(kind, table, active, x[:batch], everywhere, 3)
    assert np.array_equal(add_neurons(kind, table, active, x[:batch], np.zeros((0, 0), np.float32), 3), expected)
    nothing = np.zeros(0, np.int64)
    assert not add_neurons(kind, table, nothing, x[:batch], np.zeros((0, 0), np.float32), 3).any()


def test_scratch_that_holds_no_bundle_is_refused(x: F32) -> None:
    table, ids = make("f32", 9, SEGMENTS), np.arange(9)
    sums, little = np.zeros((MLP_PARTS, 2, SIZE), np.float32), np.zeros((2, SIZE), np.float32)
    lists = table.weights, table.words, table.places, ids, 0, 9
    factors = np.ones((3, 2, 9), np.float32)
    with pytest.raises(ValueError, match="less than one"):
        bundle_linear.add_channels(*lists, np.array(SEGMENTS), factors, 2, little, little, sums, 0, 2 * SIZE, 1)
    with pytest.raises(ValueError, match="less than one"):
        bundle_neurons.add_neurons(*lists, 2, x[:2], factors[0], little, little, sums, False)
    with pytest.raises(ValueError, match="power of two"):
        bundle_linear.add_channels(*lists, np.array(SEGMENTS), factors, 1, little, little, sums[:3], 0, SIZE, 1)
