"""A report as people read it: fio's layout where fio has one. Pure."""

from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.arena.job import ArenaFigures
from tidemill.runtime.stress.latency_stats import LatencyStats
from tidemill.runtime.stress.link.job import LinkFigures
from tidemill.runtime.stress.pipeline.job import PipelineFigures
from tidemill.runtime.stress.predictor.job import PredictorFigures
from tidemill.runtime.stress.quantities import format_count, format_ns, unit_of
from tidemill.runtime.stress.report import JobReport, ReaderFigures, ReadReport


def job_lines(job: JobReport) -> list[str]:
    options = ", ".join(f"{name}={value}" for name, value in job.options.items() if name not in ("name", "filename"))
    lines = [f"{job.jobname}: (groupid={job.groupid}): err={job.error}: {options}"]
    if job.read is not None:
        lines += read_lines(job.read)
    if job.link is not None:
        lines += link_lines(job.link)
    if job.arena is not None:
        lines += arena_lines(job.arena)
    if job.pipeline is not None:
        lines += pipeline_lines(job.pipeline)
    if job.predictor is not None:
        lines += predictor_lines(job.predictor)
    lines.append(
        f"  cpu          : usr={job.usr_cpu:.2f}%, sys={job.sys_cpu:.2f}%, ctx={job.ctx}, majf={job.majf}, "
        f"minf={job.minf}"
    )
    if job.iodepth_level:
        lines.append(f"  IO depths    : {', '.join(f'{k}={v:.1f}%' for k, v in job.iodepth_level.items())}")
    if job.reader is not None:
        lines += reader_lines(job.reader)
    if job.compute_load is not None:
        load = job.compute_load
        lines.append(
            f"  kernels      : {load.threads} threads of {load.kernels}: {load.alone_bytes_per_s / 1e9:.2f} GB/s "
            f"alone, {load.beside_bytes_per_s / 1e9:.2f} GB/s beside the load"
        )
    return lines


def read_lines(read: ReadReport) -> list[str]:
    lines = [
        f"  read: IOPS={format_count(read.iops)}, BW={format_size(read.bw_bytes)}/s ({read.bw_bytes / 1e6:.1f}MB/s)"
        f"({format_size(read.io_bytes)}/{read.runtime}msec)"
    ]
    for name, latency in (("slat", read.slat_ns), ("clat", read.clat_ns), (" lat", read.lat_ns)):
        divisor, unit = unit_of(latency.mean)
        figures = ", ".join(
            f"{key}={value / divisor:.2f}"
            for key, value in (
                ("min", latency.min), ("max", latency.max), ("avg", latency.mean), ("stdev", latency.stddev),
            )
        )  # fmt: skip
        lines.append(f"    {name} ({unit}): {figures}")
    lines += percentile_lines("clat", read.clat_ns)
    lines.append(
        f"   bw (  KiB/s): min={read.bw_min:.0f}, max={read.bw_max:.0f}, avg={read.bw_mean:.2f}, "
        f"stdev={read.bw_dev:.2f}, samples={read.bw_samples}"
    )
    return lines


def percentile_lines(name: str, latency: LatencyStats) -> list[str]:
    if not latency.percentile:
        return []
    divisor, unit = unit_of(latency.mean)
    items = [f"{float(share):5.2f}th=[{value / divisor:7.1f}]" for share, value in latency.percentile.items()]
    rows = [", ".join(items[i : i + 4]) for i in range(0, len(items), 4)]
    return [f"    {name} percentiles ({unit}):", *(f"     | {row}" for row in rows)]


def reader_lines(reader: ReaderFigures) -> list[str]:
    cache = "through the page cache" if reader.load_mode == "buffered" else "past the page cache"
    in_force = reader.load_mode
    if reader.load_mode != reader.load_mode_asked:
        in_force += f" ({reader.load_mode_asked} was refused by the file system)"
    checked = "every one verified by its checksum" if reader.verified else "not verified"
    lines = [
        f"  reader       : {in_force} reads, {cache}, aligned to {reader.alignment_bytes} bytes, {checked}",
        f"                 {reader.pattern}",
        f"                 depth {reader.depth} asked for, {reader.depth_mean:.2f} under way on average; "
        f"{reader.tickets} orders outstanding; into {format_size(reader.arena_bytes)}",
    ]
    if reader.device:
        lines.append(
            f"                 {reader.device}: {reader.faults} faults; the drive below was late for "
            f"{reader.late_reads} reads, by {format_ns(reader.late_ns / max(1, reader.late_reads))} on average"
        )
    if reader.useful_bytes and reader.orders:
        lines.append(f"                 {reader.orders} orders, {format_size(reader.useful_bytes)} of what was wanted")
    if reader.retries or reader.failed:
        lines.append(f"                 {reader.retries} tried again, {reader.failed} failed: {reader.first_failure}")
    return lines


def link_lines(link: LinkFigures) -> list[str]:
    lines = [
        f"  round trip   : {latency_line(link.round_trip_ns)}",
        f"  one way      : {format_count(link.messages_per_s)} messages/s, {format_size(link.bytes_per_s)}/s",
    ]
    if link.pipe_round_trip_ns is not None:
        lines.insert(1, f"  pipe         : {latency_line(link.pipe_round_trip_ns)}")
    slow = link.slow_reader
    if slow.certain_error:
        lines.append(f"  slow reader  : refused after {slow.certain_sent} messages: {slow.certain_error}")
    else:
        lines.append(
            f"  slow reader  : {format_ns(slow.pause_ns)} a message: the writer waits {slow.waited_share:.0%} of its "
            f"time, longest {format_ns(slow.send_ns.max)}; {slow.certain_sent} sent, {slow.certain_lost} lost"
        )
    share = slow.droppable_dropped / max(1, slow.droppable_sent)
    lines.append(
        f"  droppable    : {slow.droppable_sent} sent without a wait, {share:.1%} dropped and counted, "
        f"{slow.droppable_lost} lost"
    )
    if link.stuck_error:
        lines.append(f"  stuck reader : after {link.stuck_after_s:.1f} s: {link.stuck_error}")
    return lines


def latency_line(latency: LatencyStats) -> str:
    shares = {name: latency.percentile.get(f"{name:.6f}", 0) for name in (50.0, 99.0, 99.9)}
    told = ", ".join(f"p{name:g} {format_ns(value)}" for name, value in shares.items())
    return f"{told}, least {format_ns(latency.min)}, most {format_ns(latency.max)}; {latency.N} of them"


def arena_lines(arena: ArenaFigures) -> list[str]:
    return [
        f"  arena        : {format_size(arena.arena_bytes)}, caches hold {arena.cache_share:.0%} of all bundles, "
        f"{arena.demand_ratio:.2f} of one token's demand",
        f"  hits         : {arena.hit_rate:.1%} of {arena.bundles} bundles in {arena.tokens} tokens, "
        f"{arena.late_hit_rate:.1%} of the second half",
        f"                 per token {arena.loaded_per_token:.0f} read, {arena.admitted_per_token:.0f} admitted, "
        f"{arena.evicted_per_token:.0f} evicted; {arena.quota_moved} of quota moved",
        f"  management   : {arena.management_ns:.0f} ns a bundle, {format_count(arena.bundles_per_s)} bundles/s",
        f"  visit        : {latency_line(arena.visit_ns)}",
    ]


def pipeline_lines(found: PipelineFigures) -> list[str]:
    rate = 1e9 / found.token_ns.mean if found.token_ns.mean else 0.0
    lines = [
        f"  tokens       : {found.tokens}, {format_count(rate)}/s; {latency_line(found.token_ns)}",
        f"  per token    : stall {format_ns(found.stall_ns)} ({found.stall_share:.0%}), compute "
        f"{format_ns(found.compute_ns)}, management {format_ns(found.management_ns)}",
        f"  flash        : {format_size(found.flash_bytes_per_token)}/token, {found.flash_bytes_per_s / 1e9:.2f} GB/s "
        f"sustained, {found.load_mode} reads, busy {found.busy_share:.0%} of the time",
        f"  arena        : {format_size(found.arena_bytes)}, locked {format_size(found.locked_bytes)}, layout "
        f"{found.layout}" + (f", {found.hit_rate:.0%} hits" if found.hit_rate else ""),
    ]
    if found.bound_ns and found.tokens:
        lines.append(
            f"  bound        : max(compute, bytes / rate) {format_ns(found.bound_ns)} a token; this is "
            f"{found.token_ns.mean / found.bound_ns:.2f} of it"
        )
    return lines + ([f"  failed       : {found.failed}"] if found.failed else [])


def predictor_lines(found: PredictorFigures) -> list[str]:
    by_input = ", ".join(f"{kind} {recall:.1%}" for kind, recall in found.recall_by_input.items())
    return [
        f"  recall       : {found.recall:.1%} of what is used was named before (chance {found.chance:.1%}), "
        f"{found.precision:.1%} of what is named is used",
        f"                 by input: {by_input}; {found.tokens} tokens",
        f"  takes        : {format_ns(found.input_ns)} an input, {found.token_ms:.2f} ms a token; "
        f"{format_count(found.inputs_per_s)} inputs/s, {format_count(found.named_per_s)} bundles named/s",
        f"  input        : {latency_line(found.seen_ns)}",
    ]
