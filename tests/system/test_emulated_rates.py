"""Drives that behave as told, over memory, in real time: the rates of the reader actor's process are theirs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill.runtime.cli.main import app

MEMORY = Path("/dev/shm")


@pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no file system in memory")
@pytest.mark.parametrize(
    ("drive", "pattern", "wanted"),
    [
        ("emulate:sd-card", "--rw read --bs 256k --iodepth 4", 90e6),
        ("emulate:sd-card", "--rw randread --bs 64k --iodepth 4", 90e6),
        ("emulate:none,rate=200MB/s", "--rw randread --bs 512k --iodepth 2", 200e6),
    ],
)
def test_a_reader_gets_what_the_class_gives(drive: str, pattern: str, wanted: float) -> None:
    command = ["stress", "reader", "--directory", str(MEMORY), "--size", "64m", "--device", drive, *pattern.split()]
    result = CliRunner().invoke(app, [*command, "--runtime", "3", "--time_based", "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["jobs"][0]["read"]["bw_bytes"] == pytest.approx(wanted, rel=0.05)
