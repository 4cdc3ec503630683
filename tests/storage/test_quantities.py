import pytest

from tidemill.storage.quantities import is_time, parse_bytes, parse_seconds, parse_share


def test_words_are_read_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("0", "600MiB", "1.5g", "7b")] == [0, 600 << 20, 1_500_000_000, 7]
    assert [parse_seconds(text) for text in ("50us", "50µs", "2ms", "3s", "1.5min")] == pytest.approx(
        [50e-6, 50e-6, 2e-3, 3.0, 90.0]
    )
    assert [parse_share(text) for text in ("0.01", "1e-4", "20%", "1", "0.5%")] == pytest.approx(
        [0.01, 1e-4, 0.2, 1.0, 0.005]
    )
    assert [is_time(text) for text in ("10s", "10min", "10MiB", "10", "fast")] == [True, True, False, False, False]


@pytest.mark.parametrize("text", ["", "s", "-1s", "5", "5MB", "1e3s"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; write for example 50us"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["", "2", "101%", "-0.1", "half", "1e-4s", "nan"])
def test_what_is_no_share_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no share; write for example 0\.01"):
        parse_share(text)
