"""Whole cells over tiny models, whose compute actor takes its time."""

from pathlib import Path

import msgspec
import pytest

from tests.fakes.layouts import write_blocky_model
from tests.fakes.lossy_models import CHOICES
from tests.fakes.models import write_tiny_model
from tests.fakes.stress import FakeSurroundings, pipeline_job
from tidemill.runtime.stress.pipeline.consumer import ConsumerSpec
from tidemill.runtime.stress.pipeline.job import PipelineFigures, PipelineJob, check_job
from tidemill.runtime.stress.pipeline.run import plan_spec, run_pipeline
from tidemill.storage.arena_plan import least_arena_bytes
from tidemill.storage.bundle_plan import bundle_tables, whole_bundle_bytes
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

CONSUMER = ConsumerSpec(layer_ns=20_000)


def job_of(model: Path, **changes: object) -> PipelineJob:
    arena = least_arena_bytes(load_manifest(model))
    plain = PipelineJob(
        name="a", model=str(model), arena_bytes=arena, consumer=CONSUMER, launcher="in-process", load_mode="buffered",
        tokens=3, runtime_s=None,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def run(job: PipelineJob, surroundings: FakeSurroundings | None = None) -> PipelineFigures:
    found = run_pipeline(job, surroundings or FakeSurroundings()).pipeline
    assert found is not None
    return found


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["raw", "bf16-planes"])
def test_every_token_streams_what_is_not_locked_and_takes_the_consumers_time(tmp_path: Path, codec: str) -> None:
    write_tiny_model(tmp_path / codec, codec=codec)
    job = job_of(tmp_path / codec)
    manifest = load_manifest(tmp_path / codec)
    plan = plan_spec(job, manifest).arena.plan
    lap = [*manifest.layer_extents, *manifest.head_extents]
    streamed = sum(manifest.extents[i].stored_bytes for i in lap if not plan.is_locked(i))
    assert streamed > 0
    found = run(job)
    assert (found.tokens, found.failed, found.token_ns.N) == (3, "", 3)
    # reads run ahead by up to a lap, and rows of the embedding come besides
    assert streamed / 2 < found.flash_bytes_per_token < 3 * streamed
    assert found.compute_ns >= manifest.decoder.layer_count * CONSUMER.layer_ns
    assert found.token_ns.mean >= found.compute_ns + found.stall_ns
    assert 0 < found.busy_share <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["groups", "gates", "neurons"])
def test_single_bundles_are_visited_and_some_of_them_hit(tmp_path: Path, name: str) -> None:
    write_blocky_model(tmp_path / name, CHOICES[name])
    manifest = load_manifest(tmp_path / name)
    apart = sum(manifest.extents[i].bytes for i in _streamed_whole(manifest))
    room = least_arena_bytes(manifest) + apart + whole_bundle_bytes(manifest) // 3
    found = run(job_of(tmp_path / name, arena_bytes=room, tokens=6, preload="previous-token"))
    assert (found.failed, found.tokens) == ("", 6)
    assert 0 < found.hit_rate < 1


def _streamed_whole(manifest: Manifest) -> list[int]:
    apart = bundle_tables(manifest)
    lap = (*manifest.layer_extents, *manifest.head_extents)
    return [i for i in lap if manifest.extents[i].table not in apart]


@pytest.mark.slow
@pytest.mark.system
def test_between_processes_it_is_the_same(tiny: Path) -> None:
    found = run(job_of(tiny, launcher="local", tokens=4))
    assert (found.tokens, found.failed) == (4, "")


@pytest.mark.slow
def test_a_model_that_fits_streams_nothing(tiny: Path) -> None:
    found = run(job_of(tiny, arena_bytes=64 << 20))
    assert found.flash_bytes_per_token == 0
    assert found.bound_ns == 0
    assert found.with_alone(1e9).bound_ns == found.compute_ns


@pytest.mark.slow
def test_what_cannot_be_read_is_part_of_the_report(tiny: Path) -> None:
    (shard,) = (tiny / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[len(data) // 3 :] = bytes(len(data) - len(data) // 3)
    shard.write_bytes(data)
    report = run_pipeline(job_of(tiny), FakeSurroundings())
    assert report.error == 5
    assert report.pipeline is not None
    assert "checksum" in report.pipeline.failed


@pytest.mark.slow
def test_being_stopped_gives_what_there_is(tiny: Path) -> None:
    found = run(job_of(tiny, tokens=None, runtime_s=60.0), FakeSurroundings(stop_after=50))
    assert 0 < found.tokens <= 25


def test_an_arena_that_a_step_does_not_fit_is_refused_with_what_it_needs(tiny: Path) -> None:
    with pytest.raises(ValueError, match="--arena: the arena has 4096 bytes; this model needs at least"):
        plan_spec(job_of(tiny, arena_bytes=4096), load_manifest(tiny))


def test_the_bound_is_the_slower_of_computing_and_reading() -> None:
    found = pipeline_job(0.5e6).pipeline
    assert found is not None
    assert found.with_alone(1e9).bound_ns == pytest.approx(1e6)
    assert found.with_alone(4e9).bound_ns == pytest.approx(0.5e6)
    assert found.with_alone(0.0).bound_ns == pytest.approx(9e6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iodepth": 0}, "--iodepth is 0"),
        ({"residency": "hot-set"}, "--residency is hot-set, accepted: lfu, window"),
        ({"preload": "scaled"}, "--preload is scaled, accepted: none, previous-token"),
        ({"consumer": ConsumerSpec(layer_ns=0, active=2.0)}, "--active"),
    ],
)
def test_what_cannot_be_is_refused_by_its_option(changes: dict[str, object], says: str) -> None:
    plain = PipelineJob(name="a", model="", arena_bytes=0, consumer=CONSUMER, load_mode="direct")
    with pytest.raises(ValueError, match=says):
        check_job(msgspec.structs.replace(plain, **changes))
