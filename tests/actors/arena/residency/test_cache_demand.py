import pytest

from tidemill.actors.arena.residency.cache_demand import TableCache, cache_demand, warn_of_small_caches


@pytest.mark.parametrize(
    ("bundles", "share", "demand"), [(576, 0.5, 288), (10, 1 - 0.7, 3), (7, 0.5, 4), (7, 0.0, 0), (7, 1.0, 7)]
)
def test_a_token_needs_its_share_rounded_up(bundles: int, share: float, demand: int) -> None:
    assert cache_demand(bundles, share) == demand


def test_a_share_beyond_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        cache_demand(7, 1.1)


def test_only_a_cache_below_one_tokens_demand_is_warned_of() -> None:
    enough = TableCache("attn_qkv of layer 0", 576, 0.5, 288)
    small = TableCache("mlp_in of layer 3", 576, 0.5, 144)
    smaller = TableCache("mlp_down of layer 4", 1536, 0.5, 192)
    assert warn_of_small_caches([enough]) is None
    text = warn_of_small_caches([enough, small, smaller])
    assert text is not None
    assert "2 of 3 tables" in text
    assert "mlp_down of layer 4 holds 192 of 768 bundles, so at most 25%" in text
