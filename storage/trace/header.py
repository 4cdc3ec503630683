"""What a trace says about itself. Knows the rules of its fields, not how they are stored."""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from tidemill.storage.errors import FormatError, VersionError

TRACE_FORMAT = 1
LAYERS_MAX = 4096  # as in docs/format.md
CHANNELS_MAX = 16_777_216
HEADER_BYTES_MAX = 64 << 10

SelectionInput = Literal["qkv", "o", "gate_up", "down", "neuron"]
SELECTION_INPUTS: tuple[SelectionInput, ...] = get_args(SelectionInput)


class TraceHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`channels` holds the number of channels (neurons for `neuron`) of each input that the trace may name; the order
    of its keys is the order of a layer's rows. The first `prompt_positions` positions belong to the prompt. Ids of
    neurons are places in the order that the model stored them in: `neuron_order` is empty for the source's, else the
    manifest's digest of it."""

    model: str
    fingerprint: str
    policy: str
    sparsity: float
    channels: Mapping[SelectionInput, int]
    layer_count: int
    prompt_positions: int
    neuron_order: str = ""
    format: int = TRACE_FORMAT

    @property
    def inputs(self) -> tuple[SelectionInput, ...]:
        return tuple(self.channels)

    def check(self, where: str) -> None:
        """Raises FormatError or VersionError that names `where` and the field."""
        if self.format != TRACE_FORMAT:
            raise VersionError(
                f"{where}: trace format {self.format}, this program reads {TRACE_FORMAT}; record the trace again"
            )
        _check_range(where, "layer_count", self.layer_count, 1, LAYERS_MAX)
        _check_range(where, "prompt_positions", self.prompt_positions, 0, (1 << 32) - 1)
        if not self.channels:
            raise FormatError(f"{where}: `channels` names no input; expected some of {', '.join(SELECTION_INPUTS)}")
        for name, count in self.channels.items():
            _check_range(where, f"channels[{name}]", count, 1, CHANNELS_MAX)
        if not 0.0 <= self.sparsity < 1.0:
            raise FormatError(f"{where}: `sparsity` is {self.sparsity}, expected 0 up to but not 1")


def _check_range(where: str, field: str, got: int, least: int, most: int) -> None:
    if not least <= got <= most:
        raise FormatError(f"{where}: `{field}` is {got}, expected {least} to {most}; record the trace again")
