"""A decoder over an arena that holds the whole model: what every other arrangement has to equal, bit for bit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.masking import Masking
from tidemill.actors.compute.placement import Placement
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.tap import ActivationTap
from tidemill.actors.compute.step_events import BundlesNeeded, WantLogits
from tidemill.storage.arena_plan import align_up
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.shard_reader import load_extents


def resident_decoder(
    directory: Path,
    *,
    context: int = 128,
    chunk: int = 16,
    threads: int = 1,
    gap: int = 0,
    selects: bool = False,
    tap: ActivationTap | None = None,
) -> Decoder:
    """Every extent in order, `gap` pages apart. `selects`: its steps may take a policy."""
    manifest = load_manifest(directory)
    sizes = [align_up(extent.bytes) + gap * 4096 for extent in manifest.extents]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    arena = np.zeros(int(offsets[-1]), np.uint8)
    load_extents(directory, manifest, range(len(sizes)), arena, offsets[:-1].tolist())
    placement = Placement(len(sizes))
    placement.offsets[:] = offsets[:-1]
    masking = Masking(manifest.decoder, chunk, tap) if selects or tap is not None else None
    return ResidentDecoder(
        manifest, arena, placement, context=context, chunk=chunk, threads=threads, row_slots=4, masking=masking
    )


class ResidentDecoder(Decoder):
    """Knows where single bundles lie too: in their extents."""

    def places_of(self, need: BundlesNeeded) -> npt.NDArray[np.int64]:
        manifest, offsets = self._manifest, self._placement.offsets
        size = manifest.tables[need.table].planes[0].bundle_bytes
        extents = [manifest.extent_at(need.table, int(bundle)) for bundle in need.bundles]
        starts = [manifest.extents[i].bundle_start for i in extents]
        return np.array([offsets[i] for i in extents], np.int64) + (need.bundles - np.array(starts, np.int64)) * size


def logits_of(
    decoder: Decoder,
    token_ids: Sequence[int],
    start: int = 0,
    *,
    want: WantLogits = "all",
    policy: SelectionPolicy | None = None,
) -> npt.NDArray[np.float32]:
    """Run one step to its end; a copy of its logits."""
    step = decoder.step(token_ids, start, want_logits=want, policy=policy)
    try:
        answer: object = None
        while True:
            event = step.send(answer)
            answer = None
            if isinstance(event, BundlesNeeded):
                assert isinstance(decoder, ResidentDecoder)
                answer = decoder.places_of(event)
    except StopIteration as end:
        return np.array(end.value)


def greedy(decoder: Decoder, prompt: Sequence[int], count: int, *, chunk: int = 16) -> list[int]:
    """`count` greedy tokens after `prompt`."""
    for start in range(0, len(prompt), chunk):
        logits = logits_of(decoder, prompt[start : start + chunk], start, want="last")
    tokens: list[int] = []
    for position in range(len(prompt), len(prompt) + count):
        tokens.append(int(np.argmax(logits[-1])))
        logits = logits_of(decoder, tokens[-1:], position, want="last")
    return tokens
