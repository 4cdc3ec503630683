from typing import Any

import msgspec
import pytest

from tidemill.runtime.stress.reader.job import ReaderJob, check_job
from tidemill.runtime.stress.reader.session import ReaderPlan

JOB = ReaderJob(name="a", files=("/a:b",), load_mode="staged")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rw": "write"}, "--rw is write, accepted: read or randread: this never writes"),
        ({"iodepth": 0}, "--iodepth is 0, accepted: 1 to 64"),
        ({"block_bytes": 1000}, "--bs is 1000, accepted: a multiple of 4096"),
        ({"block_bytes": 100, "scatter": 2}, "a multiple of 64"),
        ({"size": 100}, "at least one block"),
        ({"time_based": True}, "--runtime"),
        ({"scatter": 2, "trace": "t"}, "give one of them"),
        ({"scatter": 2, "size": 8192}, "range over all of a model"),
    ],
)
def test_what_cannot_be_is_refused_by_its_option(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_job(msgspec.structs.replace(JOB, **changes), 1)


def test_as_many_jobs_as_a_machine_bears() -> None:
    with pytest.raises(ValueError, match="--numjobs is 1000"):
        check_job(JOB, 1000)


def test_options_are_named_as_fio_would_be_told() -> None:
    told = msgspec.structs.replace(JOB, runtime_s=1.5, time_based=True, size=1 << 20, verify=True).fio_options
    assert told["filename"] == "/a\\:b"
    assert (told["bs"], told["size"], told["runtime"], told["time_based"], told["verify"]) == (
        "4k", "1m", "1.5", "1", "1",
    )  # fmt: skip
    assert "rate" not in told


def test_bundles_of_a_scratch_file_have_one_size() -> None:
    job = msgspec.structs.replace(JOB, files=(), sealed=True, scatter=4)
    with pytest.raises(ValueError, match="--sweep bs: the bundles of a scratch file have one size"):
        ReaderPlan(job=job, numjobs=1, sweeps=[("bs", ("4k", "8k"))]).points()


def test_a_grid_of_sweeps_has_a_job_for_each_point() -> None:
    plan = ReaderPlan(job=JOB, numjobs=1, sweeps=[("iodepth", ("1", "8")), ("bs", ("4k", "1m"))])
    points = plan.points()
    assert [(job.name, job.iodepth, job.block_bytes) for job, _ in points] == [
        ("iodepth=1-bs=4k", 1, 4096),
        ("iodepth=1-bs=1m", 1, 1 << 20),
        ("iodepth=8-bs=4k", 8, 4096),
        ("iodepth=8-bs=1m", 8, 1 << 20),
    ]
    assert [numjobs for _, numjobs in ReaderPlan(job=JOB, numjobs=1, sweeps=[("numjobs", ("1", "2"))]).points()] == [
        1, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        (("colour", ("red",)), "--sweep colour is not known"),
        (("iodepth", ("x",)), "--sweep iodepth=x: 'x' is no value"),
        (("iodepth", ("0",)), "--iodepth is 0"),
        (("bs", ("5",)), "--bs is 5"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_runs(sweep: tuple[str, tuple[str]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ReaderPlan(job=JOB, numjobs=1, sweeps=[sweep]).points()
