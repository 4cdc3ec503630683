"""From counts and latencies to what fio would say of them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from tidemill.runtime.stress.latency_histogram import LatencyHistogram
from tidemill.runtime.stress.latency_stats import LatencyStats
from tidemill.runtime.stress.rate_series import RateSample, add_series, stats_of
from tidemill.runtime.stress.report import JobReport, ReadReport

# Upper ends of fio's coarse latency tables.
NS_ENDS = (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000)
MS_ENDS = (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000)
DEPTH_ENDS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCounts:
    """Of one job: what came, how long that took, and the latency of every order."""

    io_bytes: int
    ios: int
    elapsed_ns: int
    slat: LatencyHistogram
    clat: LatencyHistogram
    lat: LatencyHistogram
    samples: Sequence[RateSample]


def read_report(counts: ReadCounts) -> ReadReport:
    seconds = max(counts.elapsed_ns, 1) / 1e9
    rates = stats_of([sample.bytes_per_s / 1024 for sample in counts.samples])
    ios = stats_of([sample.ios_per_s for sample in counts.samples])
    bw_bytes = round(counts.io_bytes / seconds)
    return ReadReport(
        io_bytes=counts.io_bytes,
        io_kbytes=counts.io_bytes // 1024,
        bw_bytes=bw_bytes,
        bw=bw_bytes // 1024,
        iops=counts.ios / seconds,
        runtime=round(seconds * 1000),
        total_ios=counts.ios,
        short_ios=0,  # the device goes on with a short read until it is whole, or fails
        drop_ios=0,
        slat_ns=counts.slat.stats(),
        clat_ns=counts.clat.stats(),
        lat_ns=counts.lat.stats(),
        bw_min=rates.least,
        bw_max=rates.most,
        bw_agg=100.0,
        bw_mean=rates.mean,
        bw_dev=rates.deviation,
        bw_samples=rates.samples,
        iops_min=ios.least,
        iops_max=ios.most,
        iops_mean=ios.mean,
        iops_stddev=ios.deviation,
        iops_samples=ios.samples,
    )


def latency_tables(lat: LatencyStats) -> tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]]:
    """Per cent of orders by latency: up to 1000 ns, up to 1000 µs, up to 2 s and beyond."""
    values = np.array(list(map(int, lat.bins)) or [0], np.int64)
    counts = np.array(list(lat.bins.values()) or [0], np.int64)
    total = max(1, int(counts.sum()))

    def table(ends: Sequence[int], unit: int, least: int) -> dict[str, float]:
        shares: dict[str, float] = {}
        for end in ends:
            inside = (values > least) & (values <= end * unit)
            shares[str(end)] = round(100 * float(counts[inside].sum()) / total, 6)
            least = end * unit
        return shares

    ms = table(MS_ENDS, 1_000_000, 1_000_000)
    ms[">=2000"] = round(100 * float(counts[values > 2_000_000_000].sum()) / total, 6)
    return table(NS_ENDS, 1, -1), table(NS_ENDS, 1000, 1000), ms


def depth_levels(depths: Mapping[int, int]) -> Mapping[str, float]:
    """Per cent of orders that were given with so many outstanding, fio's `iodepth_level`: the first level that holds
    it."""
    total = max(1, sum(depths.values()))
    shares = dict.fromkeys((*map(str, DEPTH_ENDS), ">=64"), 0.0)
    for depth, count in depths.items():
        level = next((str(end) for end in DEPTH_ENDS if depth < 2 * end), ">=64")
        shares[level] += 100 * count / total
    return shares


def add_reads(reads: Sequence[ReadReport], samples: Sequence[Sequence[RateSample]]) -> ReadReport:
    """Of jobs that ran beside one another, as fio's group_reporting."""

    def merged(latencies: Sequence[LatencyStats]) -> LatencyHistogram:
        whole = LatencyHistogram()
        for stats in latencies:
            whole.merge(LatencyHistogram.of_stats(stats))
        return whole

    return read_report(
        ReadCounts(
            io_bytes=sum(read.io_bytes for read in reads),
            ios=sum(read.total_ios for read in reads),
            elapsed_ns=max(read.runtime for read in reads) * 1_000_000,
            slat=merged([read.slat_ns for read in reads]),
            clat=merged([read.clat_ns for read in reads]),
            lat=merged([read.lat_ns for read in reads]),
            samples=add_series(samples),
        )
    )


def group_jobs(jobs: Sequence[JobReport]) -> JobReport:
    """Read jobs of one group as one."""
    first = jobs[0]
    reads = [job.read for job in jobs if job.read is not None]
    if len(jobs) == 1 or len(reads) < len(jobs) or first.reader is None:
        return first
    read = add_reads(reads, [job.rate_log for job in jobs])
    figures = [job.reader for job in jobs if job.reader is not None]
    ns, us, ms = latency_tables(read.lat_ns)
    whole = {
        "depth": sum(f.depth for f in figures),
        "depth_mean": sum(f.depth_mean for f in figures),
        "tickets": sum(f.tickets for f in figures),
        "arena_bytes": sum(f.arena_bytes for f in figures),
        "useful_bytes": sum(f.useful_bytes for f in figures),
        "orders": sum(f.orders for f in figures),
        "retries": sum(f.retries for f in figures),
        "failed": sum(f.failed for f in figures),
        "late_reads": sum(f.late_reads for f in figures),
        "late_ns": sum(f.late_ns for f in figures),
        "faults": sum(f.faults for f in figures),
        "first_failure": next((f.first_failure for f in figures if f.first_failure), ""),
    }
    return msgspec.structs.replace(
        first,
        read=read,
        reader=msgspec.structs.replace(first.reader, **whole),
        error=max(job.error for job in jobs),
        elapsed=max(job.elapsed for job in jobs),
        job_runtime=max(job.job_runtime for job in jobs),
        usr_cpu=sum(job.usr_cpu for job in jobs),
        sys_cpu=sum(job.sys_cpu for job in jobs),
        ctx=sum(job.ctx for job in jobs),
        majf=sum(job.majf for job in jobs),
        minf=sum(job.minf for job in jobs),
        latency_ns=ns,
        latency_us=us,
        latency_ms=ms,
        rate_log=tuple(add_series([job.rate_log for job in jobs])),
    )
