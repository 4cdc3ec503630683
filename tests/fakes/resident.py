"""A decoder over an arena that holds the whole model: what every other arrangement has to equal, bit for bit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.decoder import Decoder, WantLogits
from tidemill.actors.compute.placement import Placement
from tidemill.storage.arena_plan import align_up
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.shard_reader import load_extents


def resident_decoder(
    directory: Path, *, context: int = 128, chunk: int = 16, threads: int = 1, gap: int = 0
) -> Decoder:
    """Every extent in order, `gap` pages apart."""
    manifest = load_manifest(directory)
    sizes = [align_up(extent.bytes) + gap * 4096 for extent in manifest.extents]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    arena = np.zeros(int(offsets[-1]), np.uint8)
    load_extents(directory, manifest, range(len(sizes)), arena, offsets[:-1].tolist())
    placement = Placement(len(sizes))
    placement.offsets[:] = offsets[:-1]
    return Decoder(manifest, arena, placement, context=context, chunk=chunk, threads=threads, row_slots=4)


def logits_of(
    decoder: Decoder, token_ids: Sequence[int], start: int = 0, *, want: WantLogits = "all"
) -> npt.NDArray[np.float32]:
    """Run one step to its end; a copy of its logits."""
    step = decoder.step(token_ids, start, want_logits=want)
    try:
        while True:
            next(step)
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
