"""From a run's events to a trace file: what was selected, position by position."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tidemill.actors.compute.selection.operators import OPERATORS_OF
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.runtime.events import ChannelsTraced, TokenGenerated
from tidemill.storage.manifest import Manifest, Role
from tidemill.storage.trace.header import SelectionInput, TraceHeader
from tidemill.storage.trace.trace_writer import TraceWriter

INPUT_OF: Mapping[Role, SelectionInput] = MappingProxyType(
    {"attn_qkv": "qkv", "attn_out": "o", "mlp_in": "gate_up", "mlp_down": "down", "mlp_updown": "neuron",
     "mlp": "neuron"}
)  # fmt: skip


def trace_header(manifest: Manifest, model: str, selection: SelectionSpec, prompt_positions: int) -> TraceHeader:
    """Of a run over a model with self-contained bundles. Inputs whose operators all stay whole are not recorded."""
    tables = [table for table in manifest.tables if table.is_self_contained and table.layer == 0]
    channels = {
        INPUT_OF[table.role]: table.channel_count
        for table in tables
        if table.role not in _THINNED or set(selection.operators) & set(_THINNED[table.role])
    }
    return TraceHeader(
        model=model,
        fingerprint=manifest.source.fingerprint,
        policy=selection.name,
        sparsity=selection.sparsity,
        channels=channels,
        layer_count=manifest.decoder.layer_count,
        prompt_positions=prompt_positions,
        neuron_order=manifest.neuron_order,
    )


_THINNED: Mapping[Role, Sequence[str]] = MappingProxyType(
    {
        "attn_qkv": OPERATORS_OF["qkv"],
        "attn_out": OPERATORS_OF["o"],
        "mlp_in": OPERATORS_OF["gate_up"],
        "mlp_down": OPERATORS_OF["down"],
    }
)


class SelectionRecorder:
    """Writes whole positions only: the rows of one that was given up are dropped. Holds one position's rows."""

    def __init__(self, trace: TraceWriter, manifest: Manifest) -> None:
        self.positions = 0  # written
        self._trace = trace
        self._inputs = [INPUT_OF.get(table.role) for table in manifest.tables]
        self._pending: list[ChannelsTraced] = []

    def see(self, event: object) -> None:
        """Takes any event of a generation. Raises DeviceError."""
        match event:
            case ChannelsTraced():
                self._pending.append(event)
            case TokenGenerated() if self._pending:
                for row in self._pending:
                    name = self._inputs[row.table]
                    assert name is not None
                    self._trace.add(row.position, row.layer, name, row.channels)
                self._pending.clear()
                self.positions += 1
