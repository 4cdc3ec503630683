from pathlib import Path

import numpy as np
import pytest

from tidemill.actors.arena.residency.contextual_lfu import ContextualLfu
from tidemill.actors.arena.residency.table_residency import TableResidency
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.runtime.planning.selections import StatedSelections, TracedSelections
from tidemill.storage.trace.header import TraceHeader
from tidemill.storage.trace.trace_writer import TraceWriter


def hit_rate(kind: InputKind, share: float, cache: float, channels: int = 576) -> float:
    residency = TableResidency(ContextualLfu(channels), channels, int(cache * channels))
    for active in StatedSelections({kind: share}).visits(kind, 3, channels, 150):
        missing = residency.visit(active).missing
        residency.stage(missing, np.zeros(missing.size, np.int32))
        residency.settle()
    return residency.counts.hits / residency.counts.active


@pytest.mark.parametrize(
    ("kind", "share", "cache", "seen"),
    [
        ("qkv", 0.51, 0.25, 0.317), ("qkv", 0.51, 0.5, 0.57), ("qkv", 0.29, 0.5, 0.71),
        ("o", 0.55, 0.5, 0.673), ("o", 0.37, 0.5, 0.801), ("gate_up", 0.51, 0.5, 0.55), ("gate_up", 0.28, 0.25, 0.452),
        ("down", 0.48, 0.75, 0.816), ("down", 0.2, 0.5, 0.762),
    ],
)  # fmt: skip
def test_stated_popularities_give_the_hit_rates_of_traces(
    kind: InputKind, share: float, cache: float, seen: float
) -> None:
    """SmolLM2-135M, decoded prose, top-k inputs at 50 and 70 %, LFU."""
    assert hit_rate(kind, share, cache) == pytest.approx(seen, abs=0.05)


def test_tokens_select_their_share_and_the_same_every_time() -> None:
    stated = StatedSelections({"down": 0.25})
    first, again = (stated.visits("down", 1, 64, 3) for _ in range(2))
    assert [ids.tolist() for ids in first] == [ids.tolist() for ids in again]
    assert all(ids.size == 16 and np.all(np.diff(ids.astype(int)) > 0) for ids in first)
    assert stated.visits("qkv", 0, 8, 1)[0].tolist() == list(range(8))


@pytest.mark.parametrize(("kind", "shared"), [("qkv", (0.73, 0.67, 0.64, 0.62)), ("o", (0.5, 0.5, 0.5, 0.5))])
def test_layers_that_read_the_residual_stream_select_alike(kind: InputKind, shared: tuple[float, ...]) -> None:
    stated = StatedSelections({kind: 0.5})
    of_layer = [[set(ids.tolist()) for ids in stated.visits(kind, layer, 576, 8)] for layer in range(7, 12)]
    for apart, expected in enumerate(shared, 1):
        both = [len(a & b) / 288 for a, b in zip(of_layer[0], of_layer[apart], strict=True)]
        assert np.mean(both) == pytest.approx(expected, abs=0.04)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    header = TraceHeader(
        model="m", fingerprint="f", policy="gate", sparsity=0.5, channels={"neuron": 8}, layer_count=1,
        prompt_positions=1,
    )  # fmt: skip
    with TraceWriter(tmp_path / "trace.arrow", header) as writer:
        for position, ids in enumerate(([0, 1, 2, 3, 4, 5, 6, 7], [1, 3], [2, 3, 5, 7])):
            writer.add(position, 0, "neuron", np.array(ids, np.uint32))
    return tmp_path / "trace.arrow"


def test_a_trace_tells_what_its_decoded_tokens_selected(trace: Path) -> None:
    traced = TracedSelections.load(trace)
    assert (traced.policy, traced.sparsity) == ("gate", 0.5)
    for kind in ("gate", "neuron"):
        assert [ids.tolist() for ids in traced.visits(kind, 0, 8, 9)] == [[1, 3], [2, 3, 5, 7]]
        assert traced.share(kind, 0, 8) == pytest.approx(3 / 8)


def test_a_trace_of_another_model_is_refused(trace: Path) -> None:
    traced = TracedSelections.load(trace)
    for kind, layer, channels in (("qkv", 0, 8), ("neuron", 1, 8), ("neuron", 0, 4)):
        with pytest.raises(ValueError, match="another model"):
            traced.visits(kind, layer, channels, 1)  # type: ignore[arg-type]
