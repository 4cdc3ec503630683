"""`tidemill stress reader` with real processes, on files of a few blocks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.fakes.models import write_tiny_model
from tidemill.runtime.cli.main import app
from tidemill.storage.checksums import digest_file

BLOCK = 4096


def stress(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["stress", "reader", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def job_of(result: Result) -> dict[str, object]:
    jobs: list[dict[str, object]] = json.loads(result.stdout)["jobs"]
    return jobs[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(64 * BLOCK))
    return path


@pytest.mark.slow
def test_a_file_is_read_whole_and_stays_as_it_was(file: Path) -> None:
    before, modified = digest_file(file), file.stat().st_mtime_ns
    job = job_of(stress("--filename", file, "--rw", "randread", "--iodepth", 2, "--verify", "--json"))
    assert job["read"]["io_bytes"] == 64 * BLOCK  # type: ignore[index]
    assert job["read"]["total_ios"] == 64  # type: ignore[index]
    assert job["reader"]["verified"]  # type: ignore[index]
    assert (digest_file(file), file.stat().st_mtime_ns) == (before, modified)


@pytest.mark.slow
def test_without_a_file_one_is_made_and_gone_afterwards(tmp_path: Path) -> None:
    result = stress("--directory", tmp_path, "--size", "1m", "--bs", "64k", "--numjobs", 2, "--group_reporting")
    assert "a scratch file of 1.0 MiB" in result.stdout
    assert "(2.0 MiB/" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_models_extents_are_verified_by_its_manifest(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    job = job_of(stress("--filename", tmp_path / "tiny", "--json"))
    assert job["reader"]["verified"]  # type: ignore[index]
    assert job["job options"]["bs"] == "extent"  # type: ignore[index]
    assert job["error"] == 0


@pytest.mark.slow
@pytest.mark.system
def test_a_damaged_model_fails_by_name_with_status_1(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    (shard,) = (tmp_path / "tiny" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    shard.write_bytes(data)
    job = job_of(stress("--filename", tmp_path / "tiny", "--json", status=1))
    assert job["error"] == 5
    assert shard.name in job["reader"]["first_failure"]  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.system
def test_single_bundles_of_a_model_and_of_a_scratch_file_are_gathered(
    lossy_models: Mapping[str, Path], tmp_path: Path
) -> None:
    job = job_of(stress("--filename", lossy_models["groups"], "--scatter", 5, "--rw", "randread", "--json"))
    assert job["reader"]["useful_bytes"] > 0  # type: ignore[index]
    assert job["reader"]["failed"] == 0  # type: ignore[index]
    scratch = job_of(
        stress("--directory", tmp_path, "--size", "1m", "--bs", 1024, "--scatter", 32, "--rw", "read", "--json")
    )
    assert scratch["reader"]["useful_bytes"] == 1 << 20  # type: ignore[index]
    assert scratch["reader"]["orders"] == 32  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.system
def test_a_sweep_has_a_job_for_each_value(file: Path) -> None:
    told = json.loads(stress("--filename", file, "--sweep", "iodepth=1,2", "--output-format=json+").stdout)
    assert [job["jobname"] for job in told["jobs"]] == ["iodepth=1", "iodepth=2"]
    assert told["jobs"][0]["read"]["lat_ns"]["bins"]


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
def test_fio_takes_turns_with_the_same_pattern_or_the_same_reads(file: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    for name in (file, tmp_path / "tiny"):
        told = json.loads(stress("--filename", name, "--vs-fio", "--rounds", 2, "--json").stdout)
        figures = {c["figure"]: c for c in told["comparisons"]}
        assert set(figures) == {"bw_bytes", "clat_p50_ns", "clat_p99_ns"}
        assert figures["bw_bytes"]["rounds"] == 2
        assert figures["bw_bytes"]["ratio"][1] > 0
        assert figures["bw_bytes"]["peer"].startswith("fio-")


@pytest.mark.slow
@pytest.mark.system
def test_an_emulated_drives_faults_are_retried_counted_and_named(file: Path) -> None:
    flaky = job_of(stress("--filename", file, "--device", "emulate:none,fault=eio:@8192x1", "--json"))
    assert flaky["error"] == 0
    assert flaky["reader"]["retries"] == flaky["reader"]["faults"] == 1  # type: ignore[index]
    result = stress("--filename", file, "--device", "emulate:none,fault=eio:@8192", "--rw", "randread", status=1)
    assert "emulate:none,fault=eio:@8192: " in result.stdout
    assert "1 failed: " in result.stdout
    slow = job_of(stress("--filename", file, "--device", "emulate:none,rate=1MB/s,latency=1ms", "--json"))
    assert slow["read"]["bw_bytes"] < 1.1e6  # type: ignore[index]


def test_a_missing_fio_is_said_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "--vs-fio needs fio" in stress("--filename", file, "--vs-fio", status=1).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rw", "write"), "this never writes"),
        (("--bs", "1k"), "a multiple of 4096"),
        (("--time_based",), "--runtime"),
        (("--load-mode", "buffered"), "give --direct=0"),
        (("--direct", "0", "--load-mode", "staged"), "past it"),
        (("--sweep", "bs"), "is no sweep"),
        (("--filename", "/nowhere"), "/nowhere cannot be read"),
        (("--size", "8g", "--directory", "/nowhere"), "no directory"),
        (("--html", "/nowhere/a.html"), "no file that can be written"),
        (("--device", "tape"), "device 'tape' is unknown"),
        (("--device", "emulate:none,fault=enospc:@1GiB"), "enospc is of writers"),
        (("--device", "emulate:sata", "--vs-fio"), "leave --device out"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_1(file: Path, arguments: tuple[str, ...], says: str) -> None:
    named = () if {"--filename", "--directory"} & set(arguments) else ("--filename", str(file))
    shown = " ".join(stress(*named, *arguments, status=1).stderr.split())
    assert says in shown
    assert "Traceback" not in shown


@pytest.mark.slow
@pytest.mark.system
def test_ctrl_c_gives_the_report_so_far_and_status_130(file: Path) -> None:
    command = [sys.executable, "-m", "tidemill.runtime.cli.main", "stress", "reader", "--filename", str(file)]
    process = subprocess.Popen(
        [*command, "--runtime", "1h", "--time_based", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        try:
            until = time.monotonic() + 100
            while not _reads(process.pid) and time.monotonic() < until:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=100)
        finally:
            process.kill()  # its jobs notice
    told = json.loads(out)
    assert process.returncode == 130
    assert told["interrupted"]
    assert told["jobs"][0]["read"]["io_bytes"] > 0


def _reads(process_id: int) -> bool:
    """Whether a child of it has read a megabyte from files: the job is under way."""
    for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split():
        try:
            counts = dict(line.split(": ") for line in Path(f"/proc/{child}/io").read_text().splitlines())
            if "job_host" in Path(f"/proc/{child}/cmdline").read_text() and int(counts["read_bytes"]) > 1 << 20:
                return True
        except OSError:
            continue
    return False
