"""Whole cells over emulated drives, in this process: slow drives and faults that pass change no token, and others end
the step with the place."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes.emulated import emulation
from tests.fakes.lossy_models import HALF_OF
from tests.fakes.models import write_tiny_model
from tests.system.engines import arena_of
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.engine import StepFailedError
from tidemill.runtime.llm import LLM
from tidemill.runtime.summary import Summary
from tidemill.storage.devices.emulated.spec import table_of
from tidemill.storage.manifest_file import load_manifest

PROMPT = [5, 80, 33, 2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    return directory


def open_on(
    model: Path, device: str, *, selection: SelectionSpec | None = None, verify_reads: bool = True, share: float = 0.2
) -> LLM:
    return LLM.open(
        model,
        ram=None,
        arena=2_600_000 if selection else arena_of(model, share),
        context=100,
        threads=2,
        launcher="in-process",
        device=device,
        verify_reads=verify_reads,
        selection=selection,
        residency="none" if selection else "lfu",
        draft="none",
    )


def run(llm: LLM, tokens: int = 6) -> tuple[tuple[int, ...], Summary]:
    generation = llm.generate(PROMPT, max_tokens=tokens)
    summary = generation.summary()
    return summary.token_ids, summary


def expected(model: Path, selection: SelectionSpec | None = None) -> tuple[int, ...]:
    with open_on(model, "drive", selection=selection) as llm:
        return run(llm)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "device",
    [
        "emulate:nvme-gen3",
        "emulate:none,latency=200us,jitter=50%",
        "emulate:none,fault=eio:2%,seed=3",
        "emulate:none,fault=short:2%,seed=4",
        "emulate:none,fault=flip:1%,seed=5",
        "emulate:none,fault=stall:200ms@30ms",
        "emulate:nvme-gen4,fault=eio:1%,fault=flip:1%,fault=short:1%,seed=6",
    ],
)
def test_slow_drives_and_faults_that_pass_change_no_token(tiny: Path, device: str) -> None:
    with open_on(tiny, device) as llm:
        tokens, summary = run(llm)
    assert tokens == expected(tiny)
    emulation = summary.emulation
    assert emulation is not None
    assert emulation.device == device
    assert emulation.faults == summary.read_retries + summary.rereads
    if "eio" in device or "short" in device:
        assert summary.read_retries > 0
    if "flip" in device:
        assert summary.rereads > 0


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "share"), [("channels", "0.2%"), ("gates", "0.2%"), ("neurons", "3%")])
@pytest.mark.parametrize("device", ["emulate:nvme-gen3", "emulate:none,fault=eio:SHARE,fault=flip:0.2%,seed=2"])
def test_gathers_survive_the_same(lossy_models: Mapping[str, Path], layout: str, share: str, device: str) -> None:
    """The share is of reads that fail: gathers of neurons have few, those of channels many."""
    selection, device = HALF_OF[layout], device.replace("SHARE", share)
    with open_on(lossy_models[layout], device, selection=selection) as llm:
        tokens, summary = run(llm)
    assert tokens == expected(lossy_models[layout], selection)
    assert summary.emulation is not None
    if "fault" in device:
        assert summary.read_retries + summary.rereads > 0


@pytest.mark.slow
def test_reads_of_single_bundles_are_planned_by_what_the_emulated_drive_takes(lossy_models: Mapping[str, Path]) -> None:
    """Seconds of the drive's own time for one more read, with as many at once as it takes."""
    with open_on(lossy_models["channels"], "emulate:sd-card", selection=HALF_OF["channels"]) as llm:
        reader = llm.engine._cell.spec.reader
    table = table_of(emulation("emulate:sd-card"))
    sizes = zip(reader.request_bytes, reader.request_s, strict=True)
    assert all(seconds == pytest.approx(table.seconds(size, 32) / 32) for size, seconds in sizes)
    with open_on(lossy_models["channels"], "emulate:none", selection=HALF_OF["channels"]) as llm:
        assert llm.engine._cell.spec.reader.request_s[0] < 1e-4


@pytest.mark.slow
def test_an_offset_that_cannot_be_read_ends_the_step_and_the_engine_goes_on(tiny: Path) -> None:
    """Five tries fail, of which the prompt's step makes all; the next step finds it readable."""
    extent = load_manifest(tiny).extents[load_manifest(tiny).layer_extents[5]]
    with open_on(tiny, f"emulate:none,fault=eio:@{extent.offset}x5", share=0.0) as llm:
        said = rf"layer \d.*in 5 tries: .*\.arrow at offset {extent.offset}: Input/output error \(EIO\).*dmesg"
        with pytest.raises(StepFailedError, match=said):
            run(llm)
        assert run(llm)[0] == expected(tiny)


@pytest.mark.slow
def test_damage_is_told_with_file_extent_offset_expected_and_got(tiny: Path) -> None:
    manifest = load_manifest(tiny)
    index = manifest.layer_extents[5]
    extent = manifest.extents[index]
    with (
        open_on(tiny, f"emulate:none,fault=flip:@{extent.offset}", share=0.0) as llm,
        pytest.raises(StepFailedError) as caught,
    ):
        run(llm)
    said = str(caught.value)
    for part in (rf"extent {index} \(", r"\.arrow at offset \d+", r"has checksum [0-9a-f]{16}, expected [0-9a-f]{16}"):
        assert re.search(part, said), said


@pytest.mark.slow
def test_a_drive_that_vanishes_ends_the_step_and_comes_back(tiny: Path) -> None:
    with open_on(tiny, "emulate:none,latency=100us,fault=vanish:300ms@50ms") as llm:
        with pytest.raises(StepFailedError, match=r"in 1 try: the drive is gone.*ENODEV"):
            for _ in range(100):
                run(llm)
        while True:
            try:
                tokens, _ = run(llm)
            except StepFailedError:
                continue
            break
        assert tokens == expected(tiny)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["dense", "channels", "gates", "neurons"])
def test_output_is_the_same_without_verification(tiny: Path, lossy_models: Mapping[str, Path], layout: str) -> None:
    model, selection = (tiny, None) if layout == "dense" else (lossy_models[layout], HALF_OF[layout])
    with open_on(model, "drive", selection=selection, verify_reads=False) as llm:
        tokens, summary = run(llm)
    assert tokens == expected(model, selection)
    assert summary.rereads == 0


@pytest.mark.slow
def test_without_verification_damage_is_computed_with(tiny: Path) -> None:
    """What the flag takes away: the same flips that --verify-reads finds go unseen."""
    with open_on(tiny, "emulate:none,fault=flip:30%,seed=1", verify_reads=False) as llm:
        tokens, summary = run(llm)
    assert len(tokens) == 6
    assert summary.emulation is not None
    assert summary.emulation.faults > 10
    assert summary.rereads == summary.read_retries == 0
