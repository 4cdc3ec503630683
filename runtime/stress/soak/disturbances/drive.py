"""The drive fails in the ways that an emulated one can: errors, short reads, flipped bits, stalls, and it vanishes."""

import time

from tidemill.runtime.stress.soak.disturbances.disturbance import Finding, judge_attempt, judge_recovery
from tidemill.runtime.stress.soak.disturbances.streamed import bundle_extents, streamed_extents
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.judges import CALM, Expected, SpecificError
from tidemill.runtime.stress.soak.stage import Stage

TIGHT = 0.2  # of the weights, at most: most of the rest is read for every token
SURE = 0.5  # of what is read up to the event, by the plan: the fault is sure to come
MARGIN_S = 0.2
LASTING = ("vanish", "eio-medium", "flip-medium")  # the drive stays so
FAILED = "StepFailedError"


class Drive:
    """With what the reader does about it: tries again, or says what, where and why."""

    def refusal(self, stage: Stage) -> str:
        return ""

    def run(self, event: Event, stage: Stage) -> Finding:
        share = min(event.share, TIGHT)
        fault, expected = plan_fault(event, stage, share)
        cell = stage.cell(event, share=share, draft="none", device=f"emulate:none,seed={event.index},fault={fault}")
        request = stage.request(event, cell)
        made = stage.decode(request)
        finding = judge_attempt(stage, event, made, expected, f"the drive had fault={fault}")
        if event.variant == "vanish-a-while":
            time.sleep(event.seconds + MARGIN_S)
        if event.variant not in LASTING:
            judge_recovery(stage, event, request, finding, expected)
        return finding


def plan_fault(event: Event, stage: Stage, share: float) -> tuple[str, Expected]:
    """(as `--device` takes it, how the request may end)"""
    offset = _offset(event, stage, share)
    wrong = SpecificError(FAILED, ("could not be read in 2 tries", "offset", "expected", "doctor --deep"))
    refused = SpecificError(FAILED, ("could not be read in 5 tries", f"offset {offset}", "EIO"))
    gone = SpecificError(FAILED, ("ENODEV",))
    retried, reread = Expected(True, counts=("retries",)), Expected(True, counts=("rereads",))
    after = f"@{_bytes_until(event, stage, share)}"
    match event.variant:
        case "eio-rate":
            return f"eio:{event.rate:.6f}", CALM
        case "short-rate":
            return f"short:{event.rate:.6f}", CALM
        case "flip-rate":
            return f"flip:{event.rate:.6f}", Expected(True, (wrong,))
        case "stall":
            return f"stall:{event.seconds:.2f}s{after}", CALM
        case "vanish-a-while":
            return f"vanish:{event.seconds:.2f}s{after}", Expected(False, (gone,))
        case "vanish":
            return f"vanish:{after}", Expected(False, (gone,))
        case "eio-medium":
            return f"eio:@{offset}", Expected(False, (refused,))
        case "eio-passing":
            return f"eio:@{offset}x2", retried
        case "flip-medium":
            return f"flip:@{offset}", Expected(False, (wrong,))
        case "flip-passing":
            return f"flip:@{offset}x1", reread
        case other:
            raise ValueError(f"there is no fault {other!r}")


def _offset(event: Event, stage: Stage, share: float) -> int:
    """Of a shard, where a streamed extent begins, or one of single bundles: all of them are used for every token."""
    plan = stage.arena_plan(share)
    extents = streamed_extents(stage.manifest, plan) or bundle_extents(stage.manifest)
    return extents[int(event.place * len(extents))][1].offset


def _bytes_until(event: Event, stage: Stage, share: float) -> int:
    plan = stage.arena_plan(share)
    per_token = sum(extent.stored_bytes for _, extent in streamed_extents(stage.manifest, plan))
    locked = sum(stage.manifest.extents[i].stored_bytes for i in plan.locked_extents)
    return int(locked + per_token * (1 + SURE * stage.at(event)))
