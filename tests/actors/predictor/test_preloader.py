import numpy as np
import pytest

from tidemill.actors.messages import InputSeen
from tidemill.actors.packing import pack_ids, unpack_ids
from tidemill.actors.predictor.config import PreloadConfig, PreloadKind, PreloadTable
from tidemill.actors.predictor.preloader import Preloader

CHANNELS, FF = 6, 10
GROUPS = ((0, 2), (2, 2), (4, 1))  # first layer, layers
TABLES = tuple(
    PreloadTable(4 * group + i, kind, first, layers, FF if kind == "down" else CHANNELS)  # type: ignore[arg-type]
    for group, (first, layers) in enumerate(GROUPS)
    for i, kind in enumerate(("qkv", "o", "gate_up", "down"))
)


def make(kind: PreloadKind, share: float = 1.0) -> Preloader:
    return Preloader(PreloadConfig(tables=TABLES, layer_count=5, kind=kind, share=share))


def seen(table: int, layer: int, channels: list[int], values: list[float] | None = None) -> InputSeen:
    found = TABLES[table]
    bundles = np.array(channels, np.uint32) * np.uint32(found.layers) + np.uint32(layer - found.layer)
    packed = b"" if values is None else np.array(values, "<f4").tobytes()
    return InputSeen(3, table, layer, pack_ids(bundles), packed)


def test_a_dense_step_reads_the_next_table_ahead_once_for_its_group() -> None:
    preloader = make("none")
    (ahead,) = preloader.seen(InputSeen(3, 0, 0, b"", b""))
    assert (ahead.epoch, ahead.table, ahead.certain) == (3, 1, True)
    assert unpack_ids(ahead.bundles).tolist() == list(range(CHANNELS * 2))
    assert preloader.seen(InputSeen(3, 0, 1, b"", b"")) == []
    assert preloader.seen(InputSeen(3, 11, 4, b"", b"")) == []  # nothing follows the last


def test_active_channels_of_an_input_are_preloaded_for_every_layer_of_the_next_group() -> None:
    preloads = make("cross-layer").seen(seen(0, 0, [1, 4]))
    assert [preload.table for preload in preloads] == [4]
    assert unpack_ids(preloads[0].bundles).tolist() == [2, 3, 8, 9]


def test_o_and_down_are_preloaded_by_what_the_text_used() -> None:
    preloader = make("cross-layer")
    preloader.seen(seen(4, 3, [1, 4]))
    assert preloader.seen(seen(0, 1, [1, 4])) == []  # of o nothing is known yet
    preloader.seen(seen(5, 2, [0, 5]))
    preloader.seen(seen(5, 3, [0, 3]))
    (out,) = preloader.seen(seen(0, 1, [2, 3]))  # the next position: layer 1 tells of the group that begins with 2
    assert out.table == 5
    assert unpack_ids(out.bundles).tolist() == [0, 1, 6, 7]  # the two that both layers used, or the lower


def test_o_and_down_of_single_layers_are_preloaded_a_layer_ahead() -> None:
    tables = (
        PreloadTable(0, "qkv", 0, 3, CHANNELS),
        PreloadTable(1, "o", 0, 1, CHANNELS),
        PreloadTable(2, "o", 1, 1, CHANNELS),
        PreloadTable(3, "o", 2, 1, CHANNELS),
    )
    preloader = Preloader(PreloadConfig(tables=tables, layer_count=3, kind="cross-layer", share=1.0))
    for table in (1, 2, 3):
        preloader.seen(InputSeen(3, table, table - 1, pack_ids([table, 5]), b""))
    for layer in (0, 1):
        bundles = np.array([2, 4], np.uint32) * 3 + layer
        (out,) = preloader.seen(InputSeen(3, 0, layer, pack_ids(bundles), b""))
        assert (out.table, unpack_ids(out.bundles).tolist()) == (layer + 2, [layer + 2, 5])
    assert not out.certain


NEURONS = tuple(PreloadTable(layer, "down", layer, 1, FF) for layer in range(3))


def test_what_compute_foresees_of_the_next_layer_is_preloaded_the_likeliest_of_it() -> None:
    preloader = Preloader(PreloadConfig(tables=NEURONS, layer_count=3, kind="look-ahead", share=0.5))
    foreseen = pack_ids([7, 2, 9, 1])
    (preload,) = preloader.seen(InputSeen(3, 1, 1, pack_ids([0, 1, 2, 3]), b"", foreseen))
    assert (preload.table, preload.certain) == (2, False)
    assert unpack_ids(preload.bundles).tolist() == [2, 7]
    assert preloader.seen(InputSeen(3, 2, 2, pack_ids([0, 1]), b"", b"")) == []


@pytest.mark.parametrize("kind", ["previous-token", "popularity"])
def test_neurons_are_preloaded_by_what_their_own_layer_used(kind: PreloadKind) -> None:
    preloader = Preloader(PreloadConfig(tables=NEURONS, layer_count=3, kind=kind, share=1.0))
    for layer in range(3):
        preloader.seen(InputSeen(3, layer, layer, pack_ids([layer, 8]), b""))
    (preload,) = preloader.seen(InputSeen(3, 0, 0, pack_ids([4, 5]), b""))
    assert (preload.table, unpack_ids(preload.bundles).tolist()) == (1, [1, 8])


def test_the_share_bounds_what_is_preloaded() -> None:
    (preload,) = make("cross-layer", share=0.5).seen(seen(0, 0, [1, 2, 4, 5], [0.0, 1.0, 5.0, 0.0, -7.0, 2.0]))
    assert unpack_ids(preload.bundles).tolist() == [4, 5, 8, 9]


def test_only_the_first_layer_of_a_group_tells_and_the_last_group_has_no_next() -> None:
    preloader = make("scaled")
    assert preloader.seen(seen(0, 1, [1])) == []
    assert preloader.seen(seen(8, 4, [1])) == []


def test_nothing_is_preloaded_for_a_selection_without_a_policy() -> None:
    assert make("none").seen(seen(0, 0, [1, 4])) == []
