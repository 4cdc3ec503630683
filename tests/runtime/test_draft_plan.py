from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tests.system.engines import options
from tidemill.runtime.cell import measure_demands
from tidemill.runtime.draft_options import DraftChoice, DraftOptions
from tidemill.runtime.draft_plan import DraftPlan, draft_lines, plan_drafts
from tidemill.runtime.ledger import MIB, CeilingTooSmallError, Demands
from tidemill.storage.arena_plan import holds_plane_0, least_arena_bytes
from tidemill.storage.draft_model import load_cell_manifest
from tidemill.storage.manifest import Manifest

PROCESSES = {"engine": 60 * MIB, "compute": 130 * MIB}


class Case:
    """A model of some 17 MiB, so that a ceiling in MiB parts its plans."""

    def __init__(self, directory: Path, codec: str) -> None:
        self.directory = directory
        self.manifest: Manifest = write_tiny_model(
            directory, codec=codec, layers=8, vocab_size=32768, extent_bytes=1 << 16
        )

    def demands(self, kind: DraftChoice) -> Demands:
        """With 8 MiB more for drafts than they take, so that ceilings in MiB part what fits."""
        drafted = replace(options(self.directory), draft=DraftOptions(kind=kind))
        demands = measure_demands(self.manifest, drafted, PROCESSES)
        return replace(demands, drafts={name: size + 8 * MIB for name, size in demands.drafts.items()})

    def plan(self, kind: DraftChoice, ceiling_bytes: int | None, arena_bytes: int | None = None) -> DraftPlan:
        return plan_drafts(
            self.manifest,
            self.demands(kind),
            DraftOptions(kind=kind),
            ceiling_bytes=ceiling_bytes,
            arena_bytes=arena_bytes,
        )

    def least(self, kind: DraftChoice) -> int:
        """The smallest ceiling in MiB."""
        with pytest.raises(CeilingTooSmallError) as caught:
            self.plan(kind, MIB)
        return int(str(caught.value).split("at least ")[1].split(" MiB")[0])


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("models") / "planes", "bf16-planes")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("models") / "raw", "raw")


def test_plane_0_is_locked_first_where_the_ceiling_holds_it(planes: Case) -> None:
    least = planes.least("planes")
    assert least > planes.least("none")
    for kind in ("planes", "auto"):
        plan = planes.plan(kind, least * MIB)  # type: ignore[arg-type]
        assert holds_plane_0(planes.manifest, plan.ledger.arena)
        assert "planes" in plan.spec.kinds
    assert planes.plan("auto", least * MIB).spec.kinds == ("ngram", "planes")


def test_below_that_auto_drafts_by_n_grams_and_planes_are_refused_with_what_they_need(planes: Case) -> None:
    least = planes.least("planes")
    below = planes.plan("auto", (least - 3) * MIB)
    assert below.spec.kinds == ("ngram",)
    with pytest.raises(CeilingTooSmallError) as caught:
        planes.plan("planes", (least - 1) * MIB)
    text = str(caught.value)
    assert f"this model with these drafts needs at least {least} MiB here" in text
    assert "smallest arena (row slots, vectors, plane 0 of every matrix and the smallest ring)" in text
    assert "--draft auto, ngram or none" in text
    assert "drafts" in text


def test_auto_gives_drafts_up_before_it_refuses_a_ceiling(planes: Case) -> None:
    least = planes.least("none")
    assert planes.least("auto") == least
    plan = planes.plan("auto", least * MIB)
    assert plan.spec.kinds == ()
    assert "drafts" not in dict(plan.ledger.lines)


def test_weights_of_one_plane_are_drafted_for_by_n_grams(raw: Case) -> None:
    assert raw.plan("auto", None).spec.kinds == ("ngram",)
    assert raw.plan("none", None).spec.kinds == ()


def test_a_fixed_arena_that_does_not_hold_plane_0_is_refused_by_planes_alone(planes: Case) -> None:
    arena_bytes = least_arena_bytes(planes.manifest, "plane-0") - 4096
    assert planes.plan("auto", None, arena_bytes).spec.kinds == ("ngram",)
    with pytest.raises(CeilingTooSmallError, match=r"--arena .* is too small: .*plane 0 of every matrix"):
        planes.plan("planes", None, arena_bytes)


def test_where_weights_stream_auto_spares_them_logits_of_long_drafts(planes: Case) -> None:
    """A check of 16 positions would have 2 MiB of logits beside some 6 MiB of weights."""
    explicit, resident = planes.plan("planes", planes.least("planes") * MIB), planes.plan("auto", None)
    assert explicit.spec.most == resident.spec.most == 15
    for arena_bytes in (least_arena_bytes(planes.manifest), least_arena_bytes(planes.manifest, "plane-0")):
        auto = planes.plan("auto", None, arena_bytes)
        assert auto.ledger.arena.ring_slots > 0
        assert auto.spec.most == 3
        assert dict(resident.ledger.lines)["drafts"] - dict(auto.ledger.lines)["drafts"] == 12 * 4 * 32768


def test_a_length_that_is_asked_for_is_drafted_by_auto_too(planes: Case) -> None:
    arena_bytes = least_arena_bytes(planes.manifest)
    draft = DraftOptions(kind="auto", length=9)
    spec = plan_drafts(planes.manifest, planes.demands("auto"), draft, ceiling_bytes=None, arena_bytes=arena_bytes).spec
    assert (spec.most, spec.fixed_length) == (9, 9)


def test_lines_of_drafts_hold_the_logits_of_a_check_and_a_draft_models_own_cache(planes: Case, raw: Case) -> None:
    without = draft_lines(planes.manifest, options(planes.directory), chunk=256)
    assert without == {}
    opened = replace(options(planes.directory), draft=DraftOptions(kind="model", model=raw.directory))
    lines = draft_lines(planes.manifest, opened, chunk=256)
    assert lines["drafts"] >= 16 * 32768 * 4
    assert lines["cache and buffers of the draft model"] > 2 * 8 * 32 * 200 * 4


def test_a_draft_model_that_does_not_fit_is_refused_with_what_it_takes(planes: Case, raw: Case) -> None:
    manifest, first = load_cell_manifest(planes.directory, raw.directory), len(planes.manifest.extents)
    draft = DraftOptions(kind="model", model=raw.directory)
    demands = measure_demands(manifest, replace(options(planes.directory), draft=draft), PROCESSES)
    limits = {"arena_bytes": None, "resident_from": first}
    with pytest.raises(CeilingTooSmallError, match="vectors, the draft model and the smallest ring"):
        plan_drafts(manifest, demands, draft, ceiling_bytes=planes.least("none") * MIB, **limits)
    plan = plan_drafts(manifest, demands, draft, ceiling_bytes=None, **limits)
    assert plan.spec.kinds == ("model",)
    assert all(plan.ledger.arena.is_locked(i) for i in range(first, len(manifest.extents)))
