"""The decoder of another model, which drafts: resident in the same arena, with a cache of its own. It knows nothing of
the model that it drafts for."""

from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.placement import Placement
from tidemill.actors.compute.step_events import ExtentsConsumed, LayerDone, WantLogits
from tidemill.storage.manifest import Manifest

ROW_SLOTS = 1  # never asked for: all rows lie in the arena


class DraftDecoder:
    def __init__(
        self,
        manifest: Manifest,
        arena: npt.NDArray[np.uint8],
        placement: Placement,
        *,
        context: int,
        chunk: int,
        threads: int,
    ) -> None:
        """`manifest`: its own; `placement`: of its own extents."""
        self._placement = placement
        self._decoder = Decoder(
            manifest, arena, placement, context=context, chunk=chunk, threads=threads, row_slots=ROW_SLOTS
        )

    @property
    def is_loaded(self) -> bool:
        """Whether all its weights are there. Before that it must not be run."""
        return self._placement.is_whole

    @property
    def kernel_ns(self) -> int:
        return self._decoder.kernel_ns

    def step(
        self, token_ids: Sequence[int], start: int, *, want_logits: WantLogits
    ) -> Generator[LayerDone, None, npt.NDArray[np.float32] | None]:
        """As `Decoder.step`, of at most `chunk` tokens; it needs nothing, and says only when a layer is done."""
        lap = self._decoder.step(token_ids, start, want_logits=want_logits)
        while True:
            try:
                event = next(lap)
            except StopIteration as end:
                logits: npt.NDArray[np.float32] | None = end.value
                return logits
            if isinstance(event, LayerDone):
                yield event
            else:
                assert isinstance(event, ExtentsConsumed), f"{event} of a draft model that is not loaded"
