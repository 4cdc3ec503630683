"""What selection does to a step: inputs without the channels that are not selected, and how many were.

A channel that is left out is a zero in its input. Kernels then compute with it all the same, and every sum keeps the
order, and with everything selected the bits, of an exact step.
"""

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.densities import Densities
from tidemill.actors.compute.selection.operators import OPERATORS_OF, InputKind
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.selected import Mask, Selected
from tidemill.actors.compute.selection.tap import ActivationTap
from tidemill.storage.decoder_spec import DecoderSpec

F32 = npt.NDArray[np.float32]
ZERO = np.float32(0.0)
INPUT_COPIES = 4  # masked q, k, v, and a magnitude: the temporary arrays of one input


def masking_bytes(spec: DecoderSpec, chunk: int) -> int:
    """Bytes of the buffers, and of the temporary arrays while one input is masked."""
    widest = max(spec.hidden_size, spec.q_size)
    return 4 * chunk * (3 * spec.ff_size + INPUT_COPIES * widest) + chunk * spec.ff_size


class Masking:
    """Holds the step's policy, the tap, and the MLP's gates and ups, [chunk, ff], which exact steps never store."""

    def __init__(self, spec: DecoderSpec, chunk: int, tap: ActivationTap | None) -> None:
        self.policy: SelectionPolicy | None = None  # of the step under way
        self.densities = Densities()
        self.gates: F32 = np.zeros((chunk, spec.ff_size), np.float32)
        self.ups: F32 = np.zeros((chunk, spec.ff_size), np.float32)
        self._tap = tap
        self._neurons: Mask | None = None

    @property
    def is_active(self) -> bool:
        """Whether this step needs anything of it."""
        return self.policy is not None or self._tap is not None

    def see(self, kind: InputKind, layer: int, x: F32) -> None:
        if self._tap is not None:
            self._tap.see(kind, layer, x)

    def inputs(self, kind: InputKind, layer: int, x: F32) -> list[F32]:
        """The input of each operator of a kind; the same array where they compute with the same channels, and x itself
        where they compute with all."""
        if self.policy is None or kind not in self.policy.kinds:
            return [x] * len(OPERATORS_OF[kind])
        selected = self.policy.select(layer, kind, x)
        masked: dict[int, F32] = {}
        for operator, mask in zip(selected.operators, selected.masks, strict=True):
            kept = self.densities.add(operator, mask)
            if id(mask) not in masked:
                masked[id(mask)] = x if kept == mask.size else np.where(mask, x, ZERO)
        return [masked[id(mask)] for mask in selected.masks]

    def open_mlp(self, layer: int, normed: F32) -> tuple[F32, F32]:
        """The inputs of gate and up, [B, hidden]."""
        self.see("gate_up", layer, normed)
        self._neurons = None
        if self.policy is not None and "neuron" in self.policy.kinds:
            self._neurons = self._chosen(self.policy.select(layer, "neuron", normed))
            return normed, normed
        gate, up = self.inputs("gate_up", layer, normed)
        return gate, up

    def select_neurons(self, layer: int, start: int, stop: int, count: int) -> None:
        """Neurons start .. stop at `count` positions have act(gate) in `gates` and act(gate)·up in `ups`: leave in
        `ups` what down is to be multiplied with."""
        policy, products = self.policy, self.ups[:count, start:stop]
        if policy is None:
            return
        if self._neurons is not None:
            products[~self._neurons[:, start:stop]] = ZERO
        elif "gate" in policy.kinds:
            products[~self._chosen(policy.select(layer, "gate", self.gates[:count, start:stop]))] = ZERO
        else:
            (masked,) = self.inputs("down", layer, products)
            if masked is not products:
                products[:] = masked

    def close_mlp(self, layer: int, count: int) -> None:
        """All neurons are computed. What was not selected is 0 at `down`."""
        self.see("gate", layer, self.gates[:count])
        self.see("down", layer, self.ups[:count])

    def _chosen(self, selected: Selected) -> Mask:
        """The one mask that all operators of a choice of neurons share."""
        for operator in selected.operators:
            self.densities.add(operator, selected.masks[0])
        return selected.masks[0]
