import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.runtime.stress.fio_numbers import (
    format_size,
    join_files,
    parse_seconds,
    parse_size,
    parse_sweep,
    split_files,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4k", 4096), ("1M", 1 << 20), ("1.5g", 3 << 29), ("512", 512), ("64KiB", 65536), ("2mb", 2 << 20)],
)
def test_units_count_in_1024s(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "4x", "-4k", "0", "4k-8k", "1e3"])
def test_what_is_no_size_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 4k"):
        parse_size(text)


@given(st.integers(1, 1 << 50))
def test_a_formatted_size_is_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("text", "seconds"), [("10", 10), ("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600)])
def test_a_bare_number_is_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "1w", "-1"])
def test_what_is_no_time_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 10"):
        parse_seconds(text)


@given(st.lists(st.text(st.characters(exclude_characters="\\"), min_size=1), min_size=1))
def test_names_with_colons_survive(names: list[str]) -> None:
    assert list(split_files(join_files(names))) == names


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing between two colons"):
        split_files("/a::/b")


def test_a_sweep_is_an_option_and_its_values() -> None:
    assert parse_sweep("--iodepth=1, 2,4") == ("iodepth", ("1", "2", "4"))
    for text in ("iodepth", "iodepth=", "=1,2", "iodepth=1,,2"):
        with pytest.raises(ValueError, match="no sweep"):
            parse_sweep(text)
