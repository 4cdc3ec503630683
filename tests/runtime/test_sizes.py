import pytest

from tidemill.runtime.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("600MiB", 600 << 20),
        ("8GB", 8 * 10**9),
        ("1.5GiB", 3 << 29),
        ("4096", 4096),
        (" 2 kib ", 2048),
        ("1g", 10**9),
        ("7b", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "0", "12 parsecs", "1e9", "1,5GB", "nan"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


def test_sizes_are_shown_in_binary_units() -> None:
    assert [format_size(s) for s in (5, 2048, 5 << 20, 3 << 30, 1 << 41)] == [
        "5 B",
        "2.0 KiB",
        "5.0 MiB",
        "3.0 GiB",
        "2.00 TiB",
    ]
