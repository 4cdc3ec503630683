"""Reports have fio's keys: those of fio 3.33's JSON, as it prints them for a read job."""

import json

import pytest

from tests.fakes.stress import read_job
from tidemill.runtime.stress.read_report import depth_levels, group_jobs, latency_tables
from tidemill.runtime.stress.report import Comparison, compare, make_report
from tidemill.runtime.stress.report_text import job_lines

JOB = {"jobname", "groupid", "error", "elapsed", "job options", "read", "job_runtime", "usr_cpu", "sys_cpu", "ctx",
       "majf", "minf", "iodepth_level", "latency_ns", "latency_us", "latency_ms"}  # fmt: skip
READ = {"io_bytes", "io_kbytes", "bw_bytes", "bw", "iops", "runtime", "total_ios", "short_ios", "drop_ios", "slat_ns",
        "clat_ns", "lat_ns", "bw_min", "bw_max", "bw_agg", "bw_mean", "bw_dev", "bw_samples", "iops_min", "iops_max",
        "iops_mean", "iops_stddev", "iops_samples"}  # fmt: skip
LATENCY = {"min", "max", "mean", "stddev", "N", "percentile"}


def test_a_read_job_has_fios_keys_and_units() -> None:
    report = make_report("reader", [read_job(io_bytes=8 << 20, seconds=2)], interrupted=False, cpu="z80")
    told = json.loads(report.to_json(bins=False))
    job = told["jobs"][0]
    assert set(job) >= JOB
    assert set(job["read"]) == READ
    assert all(set(job["read"][name]) == LATENCY for name in ("slat_ns", "clat_ns", "lat_ns"))
    read = job["read"]
    assert (read["io_kbytes"], read["bw_bytes"], read["bw"], read["runtime"]) == (8192, 4 << 20, 4096, 2000)
    assert read["lat_ns"]["percentile"]["50.000000"] > 0
    assert {"tidemill version", "timestamp", "timestamp_ms", "time", "jobs"} <= set(told)


def test_buckets_are_told_where_they_are_asked_for() -> None:
    report = make_report("reader", [read_job()], interrupted=False, cpu="z80")
    assert json.loads(report.to_json(bins=True))["jobs"][0]["read"]["lat_ns"]["bins"]


def test_jobs_of_a_group_add_up() -> None:
    one, other = read_job(io_bytes=1 << 20, latencies=[1000, 2000]), read_job(io_bytes=3 << 20, latencies=[3000])
    both = group_jobs([one, other])
    assert both.read is not None
    assert both.reader is not None
    assert (both.read.io_bytes, both.read.total_ios, both.read.lat_ns.N) == (4 << 20, 3, 3)
    assert (both.read.lat_ns.min, both.read.lat_ns.max, both.read.lat_ns.mean) == (1000, 3000, 2000)
    assert both.reader.depth == 2
    assert group_jobs([one]) is one


def test_coarse_tables_hold_every_order_once() -> None:
    tables = latency_tables(_lat([1, 900, 1500, 40_000, 3_000_000, 5_000_000_000]))
    assert sum(sum(table.values()) for table in tables) == pytest.approx(100, abs=1e-4)
    assert tables[2][">=2000"] == pytest.approx(100 / 6, abs=1e-4)
    assert tables[1]["2"] == pytest.approx(100 / 6, abs=1e-4)


def test_a_depth_counts_at_the_level_below() -> None:
    levels = depth_levels({1: 1, 3: 1, 4: 1, 63: 1, 64: 4})
    assert (levels["1"], levels["2"], levels["4"], levels["32"], levels[">=64"]) == (12.5, 12.5, 12.5, 12.5, 50.0)


def test_a_comparison_takes_the_ratio_of_each_turn() -> None:
    found = compare("a", "fio", "bw_bytes", [10, 30], [20, 20])
    assert isinstance(found, Comparison)
    assert (found.ratio.least, found.ratio.median, found.ratio.most, found.rounds) == (0.5, 1.0, 1.5, 2)


def test_people_read_fios_lines_and_how_reads_were_made() -> None:
    text = "\n".join(job_lines(read_job(io_bytes=8 << 20, seconds=2, latencies=[2_500_000] * 4)))
    assert "read: IOPS=2, BW=4.0 MiB/s (4.2MB/s)(8.0 MiB/2000msec)" in text
    assert "lat (msec): min=2.50" in text
    assert "50.00th=[" in text
    assert "direct was refused by the file system" in text


def _lat(values: list[int]):  # type: ignore[no-untyped-def]
    read = read_job(latencies=values).read
    assert read is not None
    return read.lat_ns
