"""Plans over real manifests of tiny models in each layout."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.layouts import write_blocky_model
from tests.fakes.rates import RATES
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice
from tidemill.actors.arena.residency.policy import Ids
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.runtime.ledger import CeilingTooSmallError, Demands
from tidemill.runtime.planning.active_run import ActiveSetting, active_curve, ledger_of, plan_active_run
from tidemill.runtime.planning.prediction import RunShape
from tidemill.runtime.planning.run_plan import ceiling_range
from tidemill.runtime.planning.selections import StatedSelections
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.manifest import Manifest
from tidemill.storage.read_choices import ReadChoices

LAYOUTS = {
    "channels": LayoutChoice("input-channel", 1),
    "groups": LayoutChoice("input-channel", 3),
    "gates": LayoutChoice("gate-first", 1),
    "neurons": LayoutChoice("neuron", 1),
}
SOME_ROOM = 100_000
HALF = StatedSelections(dict.fromkeys(("qkv", "o", "gate_up", "down", "gate", "neuron"), 0.5))


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    root: Path = tmp_path_factory.mktemp("layouts")
    return {name: write_blocky_model(root / name, choice) for name, choice in LAYOUTS.items()}


def setting_of(manifest: Manifest, *, selects: bool = True, preload_share: float = 0.0) -> ActiveSetting:
    return ActiveSetting(
        manifest=manifest,
        demands=Demands(
            processes={"all": 1 << 20}, kv_bytes=0, activation_bytes=0, link_bytes=0, bounce_bytes=0, preload_share=0.2
        ),
        rates=RATES,
        shape=RunShape(prompt_tokens=4, chunk=64, position=4, io_depth=4, threads=2),
        selections=HALF if selects else None,
        residency=ResidencyChoice("lfu"),
        preload_share=preload_share,
        choices=ReadChoices(np.array([4096.0, 65536.0]), np.array([20e-6, 60e-6]), max_bytes=1 << 19),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_everything_resident_nothing_is_read(manifests: dict[str, Manifest], layout: str) -> None:
    run = plan_active_run(setting_of(manifests[layout]), None)
    assert run.prediction.flash_bytes_per_token == 0
    assert run.prediction.hit_rate == 1.0
    assert run.small_cache is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_at_the_smallest_ceiling_a_token_reads_what_it_uses_and_is_warned_of_it(
    manifests: dict[str, Manifest], layout: str
) -> None:
    setting = setting_of(manifests[layout])
    smallest, resident = ceiling_range(ledger_of(setting))
    with pytest.raises(CeilingTooSmallError):
        plan_active_run(setting, smallest - (1 << 20))
    assert resident >= smallest
    tight = replace(setting, demands=replace(setting.demands, kv_bytes=_padding(setting, smallest)))
    run = plan_active_run(tight, smallest)
    p = run.prediction
    assert p.hit_rate < 0.2
    assert p.demanded_bytes == pytest.approx(p.active_bytes_per_token * (1 - p.hit_rate))
    assert p.read_amplification >= 1.0
    assert "smaller than one token's demand" in (run.small_cache or "")


def _padding(setting: ActiveSetting, ceiling: int) -> int:
    """The tiny models' whole range lies within a MiB: what has to stand beside the arena for it to be the smallest."""
    low, high = 0, 1 << 20
    while high - low > 256:
        middle = (low + high) // 2
        try:
            plan_active_run(replace(setting, demands=replace(setting.demands, kv_bytes=middle)), ceiling)
            low = middle
        except CeilingTooSmallError:
            high = middle
    return low


def test_an_exact_run_reads_what_may_not_stay_and_nothing_in_vain(manifests: dict[str, Manifest]) -> None:
    setting = setting_of(manifests["channels"], selects=False)
    smallest, _ = ceiling_range(ledger_of(setting))
    tight = replace(setting, demands=replace(setting.demands, kv_bytes=_padding(setting, smallest)))
    p = plan_active_run(tight, smallest).prediction
    missing = p.active_bytes_per_token * (1 - p.hit_rate)
    assert p.demanded_bytes + p.preloaded_bytes == pytest.approx(missing)


def test_a_group_reads_for_its_later_layers_what_its_first_ones_miss(manifests: dict[str, Manifest]) -> None:
    """As far as there is room: what their visits then find is no demand."""
    setting = setting_of(manifests["groups"])
    smallest, _ = ceiling_range(ledger_of(setting))
    padding = _padding(setting, smallest)
    full, roomy = (
        plan_active_run(replace(setting, demands=replace(setting.demands, kv_bytes=padding - room)), smallest)
        for room in (0, SOME_ROOM)
    )
    assert full.prediction.preload_hit_rate == 0
    assert roomy.prediction.preload_hit_rate > 0
    grouped = next(use for use in roomy.uses if use.role == "attn_qkv")
    assert grouped.demand.bundles < grouped.active - grouped.hits


def test_preloads_replace_demands_by_what_they_guess_right(manifests: dict[str, Manifest]) -> None:
    plain = setting_of(manifests["groups"])
    smallest, _ = ceiling_range(ledger_of(plain))
    tight = replace(plain, demands=replace(plain.demands, kv_bytes=_padding(plain, smallest) - SOME_ROOM))
    without, preloaded = (
        plan_active_run(replace(tight, preload_share=share), smallest).prediction for share in (0.0, 1.0)
    )
    assert without.preloaded_bytes == 0
    assert preloaded.preloaded_bytes > 0
    assert preloaded.preload_hit_rate > without.preload_hit_rate
    assert preloaded.demanded_bytes < without.demanded_bytes


def test_the_curve_goes_from_the_smallest_ceiling_to_the_resident_one(manifests: dict[str, Manifest]) -> None:
    setting = setting_of(manifests["neurons"])
    points = active_curve(setting)
    assert (points[0].ceiling_bytes, points[-1].ceiling_bytes) == ceiling_range(ledger_of(setting))
    assert points[-1].cached_share == 1.0


class Uneven:
    """`attn_out` uses the same channels always, each other input a quarter of them, one quarter after another."""

    told = ""

    def visits(self, kind: InputKind, layer: int, channels: int, tokens: int) -> Sequence[Ids]:
        quarter = channels // 4
        if kind == "o":
            return [np.arange(3 * quarter, dtype=np.uint32)] * tokens
        starts = [(token % 4) * quarter for token in range(tokens)]
        return [np.arange(start, start + quarter, dtype=np.uint32) for start in starts]

    def share(self, kind: InputKind, layer: int, channels: int) -> float:
        return 0.75 if kind == "o" else 0.25


@pytest.mark.parametrize("layout", ["channels", "groups"])
@pytest.mark.parametrize("preload_share", [0.0, 0.5])
def test_quotas_move_in_the_plan_as_they_do_in_the_run(
    manifests: dict[str, Manifest], layout: str, preload_share: float
) -> None:
    """`attn_out` and `mlp_down` share a pool; the others have none to take from or give to."""
    setting = replace(setting_of(manifests[layout], preload_share=preload_share), selections=Uneven())
    smallest, _ = ceiling_range(ledger_of(setting))
    tight = replace(setting, demands=replace(setting.demands, kv_bytes=_padding(setting, smallest) - SOME_ROOM))
    fixed, adaptive = (
        {use.role: use for use in plan_active_run(replace(tight, residency=residency), smallest).uses}
        for residency in (ResidencyChoice("lfu"), ResidencyChoice("lfu", quotas="adaptive"))
    )
    assert adaptive["attn_out"].hit_rate > fixed["attn_out"].hit_rate + 0.1
    assert adaptive["mlp_down"].hit_rate < fixed["mlp_down"].hit_rate
    assert adaptive["attn_out"].demand.bundles < fixed["attn_out"].demand.bundles
    assert adaptive["attn_qkv"] == fixed["attn_qkv"]
    assert adaptive["mlp_in"] == fixed["mlp_in"]


def test_an_exact_run_moves_no_quota(manifests: dict[str, Manifest]) -> None:
    setting = setting_of(manifests["channels"], selects=False)
    smallest, _ = ceiling_range(ledger_of(setting))
    tight = replace(setting, demands=replace(setting.demands, kv_bytes=_padding(setting, smallest) - SOME_ROOM))
    moving = replace(tight, residency=ResidencyChoice("lfu", quotas="adaptive"))
    assert plan_active_run(moving, smallest).uses == plan_active_run(tight, smallest).uses
