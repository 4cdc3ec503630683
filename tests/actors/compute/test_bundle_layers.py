"""What steps over bundles that come one by one hand to kernels."""

from pathlib import Path

import pytest
from numba import types

from tests.fakes.layouts import BLOCKY, write_blocky_model
from tests.fakes.resident import logits_of, resident_decoder
from tests.fakes.selections import HALF
from tidemill.actors.compute.kernels import bundle_linear, bundle_neurons
from tidemill.storage.convert.tables import LayoutChoice

PROMPT = [5, 80, 33, 2, 61, 17, 9]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "policy"),
    [
        (LayoutChoice("gate-first", 1), "gate"),
        (LayoutChoice("neuron", 1), "neuron"),
        (LayoutChoice("input-channel", 3), "topk, all apart"),
    ],
    ids=["gates", "neurons", "groups"],
)
def test_kernels_get_arrays_as_they_are_compiled_for(tmp_path: Path, choice: LayoutChoice, policy: str) -> None:
    """Any other order in memory would be compiled for in the middle of a prompt, for seconds."""
    write_blocky_model(tmp_path / "m", choice)
    decoder = resident_decoder(tmp_path / "m")
    logits_of(decoder, PROMPT)
    logits_of(decoder, PROMPT, policy=HALF[policy](BLOCKY))
    for kernel in (bundle_linear.add_channels, bundle_neurons.add_neurons):
        arrays = [kind for signature in kernel.signatures for kind in signature if isinstance(kind, types.Array)]
        assert {kind.layout for kind in arrays} <= {"C"}
