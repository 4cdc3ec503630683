import msgspec
import pytest

from tidemill.storage.devices.emulated.faults import FaultRule
from tidemill.storage.devices.emulated.pauses import Pauses, Throttle
from tidemill.storage.devices.emulated.spec import Emulation, parse_device


def test_the_drive_as_it_is_is_no_emulation() -> None:
    assert parse_device("drive") is None


def test_a_class_alone_has_its_jitter_and_no_pauses() -> None:
    found = parse_device("emulate:ufs-4.0")
    assert found == Emulation(drive_class="ufs-4.0", jitter=0.2, text="emulate:ufs-4.0")


def test_everything_can_be_said_at_once() -> None:
    text = (
        "emulate:nvme-gen3,rate=2.5GB/s,latency=5ms,jitter=5%,gc=20ms/3s,throttle=40%/2min,queue=8,seed=9,"
        "fault=eio:1e-4,fault=flip:@1MiBx2,fault=stall:500ms@10s,fault=vanish:@1GiB,fault=enospc:@100MB"
    )
    assert parse_device(text) == Emulation(
        drive_class="nvme-gen3",
        rate=2.5e9,
        added_s=0.005,
        jitter=0.05,
        gc=Pauses(0.02, 3.0),
        throttle=Throttle(0.4, 120.0),
        queue=8,
        seed=9,
        faults=(
            FaultRule(kind="eio", share=1e-4),
            FaultRule(kind="flip", offset=1 << 20, times=2),
            FaultRule(kind="stall", seconds=0.5, after_s=10.0),
            FaultRule(kind="vanish", after_bytes=1 << 30),
            FaultRule(kind="enospc", after_bytes=100_000_000),
        ),
        text=text,
    )


def test_bare_words_are_the_class_own_pauses() -> None:
    found = parse_device("emulate:sd-card,gc,throttle")
    assert found is not None
    assert found.gc == Pauses(0.1, 2.0)
    assert found.throttle == Throttle(0.6, 300.0)


def test_an_emulation_survives_its_way_to_another_process() -> None:
    found = parse_device("emulate:sata,gc,fault=eio:@4096x3")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Emulation) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ufs-4.0", "drive .as it is., or emulate:CLASS.*ufs-2.2.*sd-card"),
        ("emulate:floppy", "class 'floppy' is unknown, accepted: none, ufs-2.2"),
        ("emulate:sata,speed=1", "'speed=1' is unknown, accepted: rate=500MB/s; latency=50us"),
        ("emulate:sata,rate=1GB", "the class does 560 MB/s at most"),
        ("emulate:sata,rate=0", "MB/s at most"),
        ("emulate:sata,latency=fast", "'fast' is no time; write for example 50us.*it is written latency=50us"),
        ("emulate:sata,jitter=2", "'2' is no share"),
        ("emulate:sata,gc=5ms", "'' is no time.*gc=5ms/2s"),
        ("emulate:sata,throttle=0/1s", "more than 0"),
        ("emulate:sata,queue=0", "at least 1 read"),
        ("emulate:sata,seed=-1", "no whole number"),
        ("emulate:sata,fault=fire:1", "'fire:1' is no fault, accepted: eio:1e-4 or eio:@OFFSET"),
        ("emulate:sata,fault=eio", "is no fault"),
        ("emulate:sata,fault=eio:", "is no fault"),
        ("emulate:sata,fault=eio:1e-3@4096", "a share of reads or an offset"),
        ("emulate:sata,fault=eio:@4096x0", "x and no whole number"),
        ("emulate:sata,fault=stall:@1s", "how long or when"),
        ("emulate:sata,fault=stall:2s", "how long or when"),
        ("emulate:sata,fault=enospc:@2s", "how long or when"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_possible(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_device(text)
