from pathlib import Path

from tidemill.runtime.tuning.machine import Mount, cpu_model, file_system, host_id, last_level_cache_bytes, parse_mounts

TEXT = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:1 / / rw,relatime shared:1 master:2 - ext4 /dev/vda1 rw,discard
28 27 0:25 / /mnt/with\\040space ro - tmpfs none ro
a line that is none
"""


def test_mounts_are_read_with_and_without_optional_fields() -> None:
    assert parse_mounts(TEXT) == [
        Mount("0:21", "/proc", "proc", "proc"),
        Mount("254:1", "/", "ext4", "/dev/vda1"),
        Mount("0:25", "/mnt/with\\040space", "tmpfs", "none"),
    ]


def test_the_host_id_is_stable_and_sixteen_hex_digits() -> None:
    assert host_id() == host_id()
    assert len(host_id()) == 16
    assert int(host_id(), 16) >= 0


def test_the_cpu_has_a_name() -> None:
    assert cpu_model()


def test_what_does_not_exist_yet_is_on_its_parents_file_system(tmp_path: Path) -> None:
    assert file_system(tmp_path / "not" / "there") == file_system(tmp_path)


def test_proc_is_another_file_system(tmp_path: Path) -> None:
    assert file_system(Path("/proc")) != file_system(tmp_path)


def test_a_cache_has_a_size_or_is_unknown() -> None:
    size = last_level_cache_bytes()
    assert size is None or size >= 1 << 10
