"""Layers whose weights come bundle by bundle: what a step selects is what it asks for, waits for and computes with.

With everything selected it asks for every bundle, and the bits are the same: a channel that is left out adds nothing.
"""

from collections.abc import Callable, Generator, Mapping
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.bundle_buffers import BundleBuffers
from tidemill.actors.compute.densities import Densities
from tidemill.actors.compute.kernels import bundle_linear, bundle_neurons
from tidemill.actors.compute.kernels import gates as gate_kernels
from tidemill.actors.compute.kernels.elements import STORED_DTYPES
from tidemill.actors.compute.selection.foresight import Foresight
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.selected import Selected
from tidemill.actors.compute.selection.tap import ActivationTap
from tidemill.actors.compute.step_events import U32, BundlesNeeded, BundlesUsed, StepEvent
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Role

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
ALL_ACTIVE: F32 = np.zeros((0, 0), np.float32)  # what kernels take for "every listed neuron"
OF_THE_RESIDUAL_STREAM: frozenset[InputKind] = frozenset({"qkv", "gate_up"})  # whose channels are those of later layers
Layer = Generator[StepEvent, object, None]


class BundleLayers:
    """Computes on tables of self-contained bundles. `policy` is that of the step under way, None for a dense one."""

    def __init__(
        self,
        manifest: Manifest,
        arena: npt.NDArray[np.uint8],
        buffers: BundleBuffers,
        *,
        threads: int,
        densities: Densities,
    ) -> None:
        """`densities` counts what is selected."""
        self.policy: SelectionPolicy | None = None
        self.tap: ActivationTap | None = None
        self.foresight: Foresight | None = None
        self.kernel_ns = 0
        self._manifest = manifest
        self._buffers = buffers
        self._threads = threads
        self._densities = densities
        self._words = arena.view(np.uint32)
        self._views: Mapping[str, npt.NDArray[np.generic]] = {
            **{element: arena.view(dtype) for element, dtype in STORED_DTYPES.items()}, "bf16-bundles": arena,
        }  # fmt: skip
        self._gelu = manifest.decoder.activation == "gelu_tanh"
        self._segments = {
            i: np.array(table.segments, np.int64) for i, table in enumerate(manifest.tables) if table.is_self_contained
        }

    def holds(self, table: TableId) -> bool:
        return table in self._segments

    def channels(self, kind: InputKind, role: Role, layer: int, x: F32, out: F32) -> Layer:
        """out = x · W of all operators of an input kind, next to each other, over an input-channel table."""
        table_id = self._manifest.get_table(role, layer)
        table = self._manifest.tables[table_id]
        sizes = self._segments[table_id]
        if self.tap is not None:
            self.tap.see(kind, layer, x)
        channels, factors = self._choose(kind, layer, x, len(sizes))
        selected = self._policy_of(kind) is not None
        values = x[0] if selected and len(x) == 1 and kind in OF_THE_RESIDUAL_STREAM else None
        bundles = table.bundles_of(channels, layer).astype(np.uint32)
        places = _offsets((yield BundlesNeeded(table_id, layer, bundles, selected, values)))
        begun = perf_counter_ns()
        buffers, batch, width = self._buffers, len(x), out.shape[1]
        window = buffers.window(batch, width)
        for begin in range(0, width, window):
            end = min(begin + window, width)
            sums = buffers.sums_of(batch, end - begin)
            bundle_linear.add_channels(
                self._views[table.kind], self._words, places, channels, 0, len(channels), sizes, factors,
                batch, buffers.joined(table.kind), buffers.gathered, sums, begin, end, self._threads,
            )  # fmt: skip
            bundle_linear.close_parts(sums, out[:, begin:end])
        self.kernel_ns += perf_counter_ns() - begun
        yield BundlesUsed()

    def mlp_by_channels(self, layer: int, normed: F32, out: F32) -> Layer:
        """out = the MLP of `normed`, over `mlp_in` and `mlp_down`."""
        batch, buffers = len(normed), self._buffers
        gate_up, hidden = buffers.gate_up[:batch], buffers.hidden[:batch]
        yield from self.channels("gate_up", "mlp_in", layer, normed, gate_up)
        begun = perf_counter_ns()
        gate_kernels.activate_halves(gate_up, hidden, self._gelu)
        self.kernel_ns += perf_counter_ns() - begun
        yield from self.channels("down", "mlp_down", layer, hidden, out)

    def neurons(
        self, layer: int, normed: F32, sums: F32, gates: F32 | None, next_input: Callable[[], F32] | None = None
    ) -> Layer:
        """sums[p, b] += the MLP of `normed`. `gates` [B, ff] are activated gates for `mlp_updown`, None for `mlp`.
        `next_input` gives what the next layer's `normed` would be were it not for what comes in between."""
        kind: InputKind = "neuron" if gates is None else "gate"
        table_id = self._manifest.get_table("mlp" if gates is None else "mlp_updown", layer)
        table = self._manifest.tables[table_id]
        mask = None
        policy = self._policy_of(kind)
        if policy is not None:
            chosen = policy.select(layer, kind, normed if gates is None else gates)
            self._count(chosen)
            mask = chosen.masks[0]
        neurons = np.flatnonzero(mask.any(axis=0)) if mask is not None else np.arange(table.channel_count)
        bundles = neurons.astype(np.uint32)
        foresee = self._foresee(layer, next_input) if mask is not None and len(normed) == 1 else None
        places = _offsets((yield BundlesNeeded(table_id, layer, bundles, mask is not None, foresee=foresee)))
        begun = perf_counter_ns()
        bundle_neurons.add_neurons(
            self._views[table.kind], self._words, places, neurons, 0, len(neurons), len(table.segments), normed,
            _factors(gates, mask, neurons), self._buffers.joined(table.kind), self._buffers.neurons, sums, self._gelu,
        )  # fmt: skip
        self.kernel_ns += perf_counter_ns() - begun
        yield BundlesUsed()

    def gates(self, batch: int) -> F32:
        """Where gates of `mlp_updown` go before they are activated, [B, ff]."""
        return self._buffers.gate_up[:batch]

    def activate(self, gates: F32) -> None:
        begun = perf_counter_ns()
        gate_kernels.activate_gates(gates, self._gelu)
        self.kernel_ns += perf_counter_ns() - begun

    def _policy_of(self, kind: InputKind) -> SelectionPolicy | None:
        return self.policy if self.policy is not None and kind in self.policy.kinds else None

    def _choose(self, kind: InputKind, layer: int, x: F32, segments: int) -> tuple[I64, F32]:
        """The channels that some operator needs at some position, rising, and each operator's factors for them."""
        policy = self._policy_of(kind)
        if policy is None:
            factors = self._buffers.factors_of(segments, *x.shape)
            factors[:] = x
            return np.arange(x.shape[1]), factors
        chosen = policy.select(layer, kind, x)
        self._count(chosen)
        channels = chosen.union().astype(np.int64)
        factors = self._buffers.factors_of(segments, len(x), len(channels))
        for segment, mask in enumerate(chosen.masks):
            np.multiply(x[:, channels], mask[:, channels], out=factors[segment])
        return channels, factors

    def _count(self, chosen: Selected) -> None:
        for operator, mask in zip(chosen.operators, chosen.masks, strict=True):
            self._densities.add(operator, mask)

    def _foresee(self, layer: int, next_input: Callable[[], F32] | None) -> Callable[[], U32] | None:
        foresight = self.foresight
        if foresight is None or next_input is None:
            return None
        return lambda: foresight.expect(layer + 1, next_input())


def _offsets(places: object) -> I64:
    assert isinstance(places, np.ndarray)
    return places


def _factors(gates: F32 | None, mask: npt.NDArray[np.bool_] | None, neurons: I64) -> F32:
    """What the neuron kernels take as gates, [B, neurons], C-contiguous as they are compiled for: `gates[:, neurons]`
    is not."""
    if gates is not None:
        chosen: F32 = np.take(gates, neurons, axis=1)
        return chosen if mask is None else chosen * np.take(mask, neurons, axis=1)
    return ALL_ACTIVE if mask is None else np.take(mask, neurons, axis=1).astype(np.float32)
