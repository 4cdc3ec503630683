"""Bytes of a copied model change on the drive while it is decoded from; and the page cache loses what it had of it."""

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from tidemill.runtime.stress.scratch import check_room
from tidemill.runtime.stress.soak.attempt import Attempt
from tidemill.runtime.stress.soak.disturbances.disturbance import (
    Finding,
    SkippedError,
    disturb,
    judge_attempt,
    judge_recovery,
)
from tidemill.runtime.stress.soak.disturbances.streamed import streamed_extents
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import CALM, Expected, SpecificError
from tidemill.runtime.stress.soak.stage import Stage
from tidemill.runtime.tuning.scratch_file import NoScratchSpaceError
from tidemill.storage.errors import DeviceError
from tidemill.storage.manifest import Extent

RUN_BYTES = {"bit": 1, "bytes": 64, "page": 4096}
EVERY_S = 0.005


class Damage:
    """Reads are verified: no wrong byte is computed with, and the error says which file, which extent, and where. When
    the bytes are right again, so is the text."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        copy = copy_model(stage)
        plan = stage.arena_plan(0.0)
        extents = streamed_extents(stage.manifest, plan)
        if not extents:
            raise SkippedError("all that can be named of this model's weights fits the least arena")
        number, extent = extents[int(event.place * len(extents))]
        shard = stage.shards(copy)[extent.shard]
        offset, mask = plan_damage(event, extent)
        words = (f"extent {number} ", shard.name, f"offset {extent.offset}", "could not be read in 2 tries")
        expected = Expected(False, (SpecificError("StepFailedError", words),))
        cell = stage.cell(event, share=0.0, draft="none", model=copy)
        request = stage.request(event, cell)
        is_changed = False

        def act(_: Attempt) -> None:
            nonlocal is_changed
            flip(shard, offset, mask)
            is_changed = True

        try:
            made = stage.decode(request, at=stage.at(event), act=act)
        finally:
            if is_changed:
                flip(shard, offset, mask)
        done = f"{len(mask)} bytes changed at offset {offset} of a copy's {shard.name}"
        finding = judge_attempt(stage, event, made, expected, done)
        judge_recovery(stage, event, request, finding)
        return finding


def plan_damage(event: Event, extent: Extent) -> tuple[int, bytes]:
    """(where in the shard, what is laid over it): within this one extent."""
    length = min(RUN_BYTES[event.variant], extent.stored_bytes)
    offset = extent.offset + int(event.place * 1e6) % (extent.stored_bytes - length + 1)
    return offset, bytes([1 << event.index % 8]) if event.variant == "bit" else b"\xa5" * length


def flip(path: Path, offset: int, mask: bytes) -> None:
    """Exclusive or, in place: the file is read meanwhile. Twice is not at all."""
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(len(mask))
        file.seek(offset)
        file.write(bytes(a ^ b for a, b in zip(data, mask, strict=True)))


def copy_model(stage: Stage) -> Path:
    """The campaign's own, made once. Raises SkippedError where there is no room for it."""
    copy = stage.grounds.path / "copy"
    if copy.is_dir():
        return copy
    size = sum(file.stat().st_size for file in stage.settings.model.rglob("*") if file.is_file())
    try:
        check_room(stage.grounds.path, size)
    except (NoScratchSpaceError, DeviceError) as error:
        raise SkippedError(f"no room for a copy of the model: {error}") from None
    shutil.copytree(stage.settings.model, copy)
    for shard in stage.shards(copy):  # on the drive, or dropping it from the page cache would do nothing
        with shard.open("rb") as file:
            os.fsync(file.fileno())
    return copy


class PageCache:
    """Where shards are read through it."""

    def refusal(self, stage: Stage) -> str:
        return "" if hasattr(os, "posix_fadvise") else "this system drops no single file from its page cache"

    def run(self, event: Event, stage: Stage) -> Finding:
        def act(_: Attempt) -> None:
            time.sleep(event.delay_s)
            until = time.monotonic() + (event.seconds if event.variant != "once" else 0.0)
            while True:
                drop_from_cache(stage.shards())
                if time.monotonic() >= until:
                    return
                time.sleep(EVERY_S)

        done = f"the page cache lost the model's files, {event.variant}"
        return disturb(stage, event, stage.cell(event, load_mode="buffered"), act, CALM, done)


def drop_from_cache(paths: Iterable[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
