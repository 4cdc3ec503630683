"""What disturbances plan by an event: faults that `--device` takes, damage within one extent, judges of their own."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.fakes.models import write_tiny_model
from tidemill.runtime.stress.soak.disturbances.disk import judge_full, judge_left
from tidemill.runtime.stress.soak.disturbances.drive import LASTING, plan_fault
from tidemill.runtime.stress.soak.disturbances.links import judge_flood
from tidemill.runtime.stress.soak.disturbances.shards import RUN_BYTES, flip, plan_damage
from tidemill.runtime.stress.soak.disturbances.streamed import streamed_extents
from tidemill.runtime.stress.soak.grounds import Grounds
from tidemill.runtime.stress.soak.messages import Flooded
from tidemill.runtime.stress.soak.schedule import VARIANTS, draw_event
from tidemill.runtime.stress.soak.settings import SoakSettings, check_settings
from tidemill.runtime.stress.soak.stage import Done, Stage
from tidemill.storage.devices.emulated.spec import parse_device


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("soak")
    write_tiny_model(directory / "tiny")
    settings = SoakSettings(
        model=directory / "tiny",
        model_name="tiny",
        seed=1,
        runtime_s=1.0,
        tokens=20,
        deadline_s=15.0,
        directory=directory,
    )
    with Grounds(directory) as grounds:
        yield Stage(check_settings(settings), grounds)


@pytest.mark.parametrize("variant", VARIANTS["device"])
def test_every_fault_is_one_that_devices_know_and_says_how_it_may_end(stage: Stage, variant: str) -> None:
    event = msgspec.structs.replace(draw_event(1, 4), kind="device", variant=variant)
    fault, expected = plan_fault(event, stage, 0.0)
    device = parse_device(f"emulate:none,fault={fault}")
    assert device is not None
    assert len(device.faults) == 1
    assert expected.passes or expected.errors
    assert not (variant in LASTING and expected.passes)


def test_damage_lies_within_one_extent_that_every_token_reads(stage: Stage) -> None:
    streamed = streamed_extents(stage.manifest, stage.arena_plan(0.0))
    assert streamed
    assert streamed_extents(stage.manifest, stage.arena_plan(2.0)) == []
    for number in range(50):
        for variant in VARIANTS["damage"]:
            event = msgspec.structs.replace(draw_event(2, number), variant=variant)
            _, extent = streamed[int(event.place * len(streamed))]
            offset, mask = plan_damage(event, extent)
            assert extent.offset <= offset
            assert offset + len(mask) <= extent.offset + extent.stored_bytes
            assert 0 < len(mask) <= RUN_BYTES[variant]
            assert any(mask)


def test_what_is_flipped_twice_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(bytes(range(100)))
    flip(path, 10, b"\x01\x80")
    assert path.read_bytes()[9:13] == bytes([9, 11, 11 ^ 0x80, 12])
    flip(path, 10, b"\x01\x80")
    assert path.read_bytes() == bytes(range(100))


def test_a_flood_that_nobody_waited_for_is_noticed() -> None:
    assert judge_flood(Flooded(100, 1.2), 1.0) == []
    assert "expected to wait for compute for 1.00 s" in judge_flood(Flooded(100, 0.5), 1.0)[0]
    assert "its messages were not read while it ran" in judge_flood(None, 1.0)[0]


def test_what_a_full_disk_keeps_and_what_is_not_said_is_noticed() -> None:
    assert judge_left(["tidemill"], {"tidemill"}) == []
    assert judge_left(["tidemill", "tidemill/12-x"], {"tidemill"}) == ["left behind on the full disk: tidemill/12-x"]
    assert judge_full(Done(1, "", "error: No space left on device")) == []
    assert "does not say that there is no space" in judge_full(Done(1, "", "error: 28"))[0]
    assert "exit status 0" in judge_full(Done(0, "", "no space"))[0]


@pytest.mark.parametrize(
    ("change", "option"),
    [({"runtime_s": 0.0}, "--runtime"), ({"tokens": 3}, "--tokens"), ({"deadline_s": 5.0}, "--deadline"),
     ({"kinds": ("kil",)}, "--kinds"), ({"kinds": ()}, "--kinds"), ({"only": -1}, "--event")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(stage: Stage, change: dict[str, object], option: str) -> None:
    fields = {name: getattr(stage.settings, name) for name in SoakSettings.__slots__}
    with pytest.raises(ValueError, match=option):
        check_settings(SoakSettings(**(fields | change)))  # type: ignore[arg-type]
