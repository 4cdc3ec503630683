from pathlib import Path

import pytest

from tidemill.storage.devices.huge_pages import HUGE_PAGE_BYTES, huge_page_buffer, is_shared_memory_scattered


@pytest.mark.parametrize("wanted", [1, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1])
def test_a_buffer_is_whole_pages_of_2_mib(wanted: int) -> None:
    buffer = huge_page_buffer(wanted)
    assert len(buffer) >= wanted
    assert len(buffer) % HUGE_PAGE_BYTES == 0
    buffer[-1] = 7
    assert buffer[-1] == 7


@pytest.mark.parametrize(
    ("text", "scattered"),
    [
        ("always within_size advise [never] deny force\n", True),
        ("always within_size advise never [deny] force\n", True),
        ("always within_size [advise] never deny force\n", False),
        ("[always] within_size advise never deny force\n", False),
        ("", True),
    ],
)
def test_the_systems_setting_says_whether_shared_memory_is_scattered(
    tmp_path: Path, text: str, scattered: bool
) -> None:
    (tmp_path / "shmem_enabled").write_text(text)
    assert is_shared_memory_scattered(tmp_path / "shmem_enabled") is scattered


def test_a_system_without_the_setting_is_taken_to_scatter(tmp_path: Path) -> None:
    assert is_shared_memory_scattered(tmp_path / "none")
