import pytest

from tidemill.storage.devices.emulated.faults import FaultDice, Vanishing, parse_fault


def throw(dice: FaultDice, count: int, *, offset: int = 0) -> list[bool]:
    """One read after the other, each at a place of its own."""
    return [dice.throw([0], [offset + 4096 * i], [4096]) is not None for i in range(count)]


def test_a_share_of_reads_is_hit_the_same_ones_with_the_same_seed() -> None:
    rules = [parse_fault("eio:10%")]
    first = throw(FaultDice(rules, 1), 4000)
    assert sum(first) == pytest.approx(400, abs=60)  # three standard deviations
    assert first == throw(FaultDice(rules, 1), 4000) != throw(FaultDice(rules, 2), 4000)


def test_who_is_hit_does_not_hang_on_the_order_in_which_reads_come() -> None:
    rules = [parse_fault("eio:20%")]
    places = [(shard, 4096 * i) for shard in (0, 1) for i in range(200)]
    forwards, backwards = FaultDice(rules, 5), FaultDice(rules, 5)
    hits = {place for place in places if forwards.throw([place[0]], [place[1]], [4096])}
    assert hits == {place for place in reversed(places) if backwards.throw([place[0]], [place[1]], [4096])}
    assert 0 < len(hits) < len(places)


def test_the_next_read_of_a_place_is_drawn_anew() -> None:
    dice = FaultDice([parse_fault("flip:50%")], 3)
    again = [dice.throw([0], [8192], [4096]) is not None for _ in range(200)]
    assert sum(again) == pytest.approx(100, abs=25)


def test_rules_of_one_kind_are_drawn_apart() -> None:
    """Two rules of 50 % hit three quarters."""
    assert sum(throw(FaultDice([parse_fault("eio:50%")] * 2, 0), 2000)) == pytest.approx(1500, abs=60)


def test_an_offset_hits_every_read_over_it_or_so_many() -> None:
    always = FaultDice([parse_fault("flip:@10000")], 0)
    assert throw(always, 5) == [False, False, True, False, False]
    hit = always.throw([7], [4096], [8192])
    assert hit is not None
    assert hit.byte == 10000 - 4096
    twice = FaultDice([parse_fault("eio:@10000x2")], 0)
    assert [any(throw(twice, 5)) for _ in range(4)] == [True, True, False, False]


def test_one_read_of_many_is_named() -> None:
    dice = FaultDice([parse_fault("short:@100000")], 0)
    hit = dice.throw([0, 0, 0], [0, 98304, 200_000], [4096, 4096, 4096])
    assert hit is not None
    assert (hit.kind, hit.read) == ("short", 1)
    drawn = FaultDice([parse_fault("eio:1%")], 0).throw([0] * 2000, [4096 * i for i in range(2000)], [4096] * 2000)
    assert drawn is not None
    assert drawn.read < 500


def test_a_drive_that_vanishes_by_time_or_bytes_for_good_or_a_while() -> None:
    s = 1_000_000_000
    gone = Vanishing([parse_fault("vanish:2s@10s"), parse_fault("vanish:@1MiB")])
    gone.begin(5.0 * s)
    assert gone.next_ns(5.0 * s) == 15.0 * s
    assert [gone.is_gone(at * s, 0) for at in (5.0, 14.9, 15.0, 16.9, 17.0)] == [False, False, True, True, False]
    assert gone.is_gone(18.0 * s, 1 << 20)
    assert gone.is_gone(1e6 * s, 1 << 20)
