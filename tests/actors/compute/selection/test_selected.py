import numpy as np

from tidemill.actors.compute.selection.selected import Selected, keep_above


def test_a_threshold_keeps_what_reaches_it_of_either_sign() -> None:
    x = np.array([[0.5, -0.5, 0.49, -0.51, 0.0]], np.float32)
    assert keep_above(x, 0.5).tolist() == [[True, True, False, True, False]]


def test_no_threshold_keeps_zeros_too() -> None:
    assert keep_above(np.zeros((2, 3), np.float32), 0.0).all()


def test_a_nan_is_never_masked_away() -> None:
    assert keep_above(np.array([[np.nan, 0.0]], np.float32), 1.0).tolist() == [[True, False]]


def test_the_union_holds_every_channel_that_some_operator_needs_at_some_position_ascending() -> None:
    first = np.array([[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]], bool)
    second = np.array([[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]], bool)
    union = Selected(("gate", "up"), [first, second]).union()
    assert union.dtype == np.uint32
    assert union.tolist() == [0, 2, 4]


def test_the_union_leaves_masks_as_they_are() -> None:
    mask = np.array([[True, False]])
    Selected(("q", "k"), [mask, ~mask]).union()
    assert mask.tolist() == [[True, False]]
