import numpy as np

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
    assert (ahead.epoch, ahead.table) == (3, 1)
    assert unpack_ids(ahead.bundles).tolist() == list(range(CHANNELS * 2))
    assert preloader.seen(InputSeen(3, 0, 1, b"", b"")) == []
    assert preloader.seen(InputSeen(3, 11, 4, b"", b"")) == []  # nothing follows the last


def test_active_channels_of_an_input_are_preloaded_for_every_layer_of_the_next_group() -> None:
    preloads = make("cross-layer").seen(seen(0, 0, [1, 4]))
    assert [preload.table for preload in preloads] == [4]
    assert unpack_ids(preloads[0].bundles).tolist() == [2, 3, 8, 9]


def test_o_and_down_are_preloaded_by_what_the_text_used() -> None:
    preloader = make("cross-layer")
    assert len(preloader.seen(seen(0, 0, [1, 4]))) == 1  # of o nothing is known yet
    preloader.seen(seen(5, 2, [0, 5]))
    preloader.seen(seen(5, 3, [0, 3]))
    qkv, out = preloader.seen(seen(0, 0, [2, 3]))  # the next position
    assert (qkv.table, out.table) == (4, 5)
    assert unpack_ids(out.bundles).tolist() == [0, 1, 6, 7]  # the two that both layers used, or the lower


def test_the_share_bounds_what_is_preloaded() -> None:
    (preload,) = make("cross-layer", share=0.5).seen(seen(0, 0, [1, 2, 4, 5], [0.0, 1.0, 5.0, 0.0, -7.0, 2.0]))
    assert unpack_ids(preload.bundles).tolist() == [4, 5, 8, 9]


def test_only_the_first_layer_of_a_group_tells_and_the_last_group_has_no_next() -> None:
    preloader = make("scaled")
    assert preloader.seen(seen(0, 1, [1])) == []
    assert preloader.seen(seen(8, 4, [1])) == []


def test_nothing_is_preloaded_for_a_selection_without_a_policy() -> None:
    assert make("none").seen(seen(0, 0, [1, 4])) == []
