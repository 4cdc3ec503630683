"""The tap that calibration looks at activations with: it keeps histograms and sums, never the activations."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.selection.operators import InputKind
from tidemill.runtime.calibration.calibration_file import QUANTILE_INPUTS
from tidemill.runtime.calibration.low_rank_fit import Moments, moments_bytes, weight_of
from tidemill.runtime.calibration.magnitudes import BINS, MagnitudeHistogram
from tidemill.storage.decoder_spec import DecoderSpec

F32 = npt.NDArray[np.float32]


def recorder_bytes(spec: DecoderSpec, trained: range) -> int:
    histograms = 8 * BINS * len(QUANTILE_INPUTS) * spec.layer_count
    return histograms + len(trained) * moments_bytes(spec.hidden_size, spec.ff_size)


class ActivationRecorder:
    """Histograms of every layer's inputs, and for the layers of `trained` what their predictors are fitted on."""

    def __init__(self, spec: DecoderSpec, trained: range) -> None:
        self._layers = range(spec.layer_count)
        self._histograms = {(kind, layer): MagnitudeHistogram() for kind in QUANTILE_INPUTS for layer in self._layers}
        self.moments: Mapping[int, Moments] = {layer: Moments(spec.hidden_size, spec.ff_size) for layer in trained}
        self._mlp_input: F32 = np.zeros((0, spec.hidden_size), np.float32)

    def see(self, kind: InputKind, layer: int, x: F32) -> None:
        if kind == "gate_up":
            self._mlp_input = x.copy()
        if kind == "down" and layer in self.moments:
            self.moments[layer].add(self._mlp_input, weight_of(x))
        histogram = self._histograms.get((kind, layer))
        if histogram is not None:
            histogram.add(x)

    def quantiles(self) -> dict[str, F32]:
        """The arrays of a calibration: f32 [layers, levels] of each input."""
        return {
            f"quantiles.{kind}": np.stack([self._histograms[kind, layer].quantiles() for layer in self._layers])
            for kind in QUANTILE_INPUTS
        }
