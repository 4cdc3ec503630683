from pathlib import Path

import msgspec
import pytest

from tests.fakes.rates import RATES
from tidemill.runtime.planning.rates import RATES_VERSION, MachineRates
from tidemill.runtime.tuning.saved_rates import DamagedRatesError, find_rates, load_rates, rates_path, save_rates


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    path = rates_path(tmp_path)
    save_rates(path, RATES)
    assert load_rates(path) == RATES
    assert find_rates(tmp_path).rates == RATES
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_saving_again_replaces(tmp_path: Path) -> None:
    path = rates_path(tmp_path)
    save_rates(path, RATES)
    save_rates(path, msgspec.structs.replace(RATES, dram_bytes_per_s=1e9))
    assert load_rates(path).dram_bytes_per_s == 1e9


def test_nothing_saved_is_no_problem(tmp_path: Path) -> None:
    saved = find_rates(tmp_path)
    assert saved.rates is None
    assert saved.problem is None


def test_file_systems_have_files_of_their_own(tmp_path: Path) -> None:
    assert rates_path(tmp_path) == rates_path(tmp_path / "below")
    assert rates_path(tmp_path) != rates_path(Path("/proc"))


def changed(**fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(RATES, str_keys=True), **fields})


FLASH = msgspec.to_builtins(RATES.flash)
DAMAGED = {
    "empty": b"",
    "cut": msgspec.json.encode(RATES)[:-20],
    "no text": b"\xff\xfe\x00",
    "another version": changed(version=RATES_VERSION + 1),
    "unknown field": changed(surprise=1),
    "rate of zero": changed(dram_bytes_per_s=0.0),
    "no threads": changed(threads=0),
    "no flash": changed(flash={**FLASH, "points": []}),
    "half a grid": changed(flash={**FLASH, "points": FLASH["points"][:3]}),
    "depth of zero": changed(flash={**FLASH, "points": [{**FLASH["points"][0], "depth": 0}]}),
    "no kernels": changed(kernels={"bytes_per_s": {}, "flop_per_s": {"8": 1.0}}),
    "batch of zero": changed(kernels={"bytes_per_s": {"bf16": 1.0}, "flop_per_s": {"0": 1.0}}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_with_what_to_do_and_not_used(name: str, tmp_path: Path) -> None:
    path = rates_path(tmp_path)
    save_rates(path, RATES)
    path.write_bytes(DAMAGED[name])
    with pytest.raises(DamagedRatesError, match="`tidemill tune` measures again") as caught:
        load_rates(path)
    assert str(path) in str(caught.value)
    saved = find_rates(tmp_path)
    assert saved.rates is None
    assert saved.problem == str(caught.value)


def test_a_golden_file_of_this_version_stays_readable(tmp_path: Path) -> None:
    golden = tmp_path / "golden.json"
    golden.write_bytes(
        b'{"version":1,"host":"a","cpu":"b","threads":2,"file_system":"c","measured_at":"d","flash":{"source":"e",'
        b'"load_mode":"direct","points":[{"request_bytes":4096,"depth":1,"bytes_per_s":1.5}]},"dram_bytes_per_s":2.5,'
        b'"kernels":{"bytes_per_s":{"bf16":3.5},"flop_per_s":{"8":4.5}}}'
    )
    rates: MachineRates = load_rates(golden)
    assert rates.flash.points[0].bytes_per_s == 1.5
    assert rates.kernels.flop_per_s == {8: 4.5}
