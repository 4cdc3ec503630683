"""Selection in a step: everything selected is exact, bit for bit; a mask does what zeroed inputs do, in any batch."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.fakes.models import TINY, write_tiny_model
from tests.fakes.resident import logits_of, resident_decoder
from tests.fakes.selections import EVERYTHING, HALF, neuron, topk
from tidemill.actors.compute.selection.operators import OPERATORS, InputKind
from tidemill.storage.ids import TableId
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.shard_reader import read_table

PROMPT = list(range(3, 35))
F32 = npt.NDArray[np.float32]


@pytest.fixture(scope="module", params=["raw", "bf16-planes"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    write_tiny_model(directory, codec=request.param)
    return directory


@pytest.fixture(scope="module")
def exact(model: Path) -> F32:
    return logits_of(resident_decoder(model, chunk=32), PROMPT)


class Recorder:
    """Copies of everything that a tap is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[InputKind, int, F32]] = []

    def see(self, kind: InputKind, layer: int, x: F32) -> None:
        self.seen.append((kind, layer, x.copy()))

    def of(self, kind: InputKind, layer: int) -> F32:
        return next(x for a, b, x in self.seen if (a, b) == (kind, layer))


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("chunk", [1, 5, 32])
def test_with_everything_selected_the_bits_are_those_of_an_exact_step(
    model: Path, exact: F32, name: str, chunk: int
) -> None:
    decoder = resident_decoder(model, chunk=chunk, selects=True)
    policy = EVERYTHING[name](TINY)
    got = [logits_of(decoder, PROMPT[i : i + chunk], i, policy=policy) for i in range(0, len(PROMPT), chunk)]
    assert np.array_equal(np.concatenate(got), exact)
    assert np.array_equal(decoder.take_densities(), np.ones(len(OPERATORS)))


def test_a_decoder_that_could_select_or_is_looked_at_still_gives_the_exact_bits(model: Path, exact: F32) -> None:
    assert np.array_equal(logits_of(resident_decoder(model, chunk=32, selects=True), PROMPT), exact)
    assert np.array_equal(logits_of(resident_decoder(model, chunk=32, tap=Recorder()), PROMPT), exact)


@pytest.mark.parametrize("name", HALF)
def test_a_position_has_the_same_bits_alone_and_in_any_batch(model: Path, exact: F32, name: str) -> None:
    policy = HALF[name](TINY)
    whole = logits_of(resident_decoder(model, chunk=32, selects=True), PROMPT, policy=policy)
    assert not np.array_equal(whole, exact)
    for chunk in (1, 7):
        decoder = resident_decoder(model, chunk=chunk, threads=2, selects=True)
        got = [logits_of(decoder, PROMPT[i : i + chunk], i, policy=policy) for i in range(0, len(PROMPT), chunk)]
        assert np.array_equal(np.concatenate(got), whole)


def test_an_exact_step_after_a_lossy_one_is_exact(model: Path, exact: F32) -> None:
    decoder = resident_decoder(model, chunk=32, selects=True)
    logits_of(decoder, PROMPT, policy=HALF["gate"](TINY))
    assert np.array_equal(logits_of(decoder, PROMPT), exact)


def test_a_tap_sees_every_input_of_every_layer_in_order(model: Path) -> None:
    tap = Recorder()
    logits_of(resident_decoder(model, chunk=32, tap=tap), PROMPT)
    kinds = ["qkv", "o", "gate_up", "gate", "down"]
    assert [(kind, layer) for kind, layer, _ in tap.seen] == [(k, n) for n in range(TINY.layer_count) for k in kinds]
    widths = {kind: x.shape for kind, _, x in tap.seen}
    assert widths["qkv"] == widths["gate_up"] == (len(PROMPT), TINY.hidden_size)
    assert widths["o"] == (len(PROMPT), TINY.q_size)
    assert widths["gate"] == widths["down"] == (len(PROMPT), TINY.ff_size)


def mlp_of(directory: Path) -> tuple[F32, F32, F32]:
    """Gates, ups and downs of layer 0, each [ff, hidden]."""
    manifest = load_manifest(directory)
    stored = read_table(directory, manifest, TableId(manifest.get_table("mlp", 0)))
    rows = (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(-1, 3, TINY.hidden_size)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def test_masked_gates_and_ups_are_products_with_the_thinned_input(model: Path) -> None:
    """f64 by hand: sums of 64 products in f32 lie within 64 units of roundoff of their magnitudes' sum."""
    tap = Recorder()
    policy = topk(TINY, {"gate": 0.6, "up": 0.9, "down": 0.2})
    logits_of(resident_decoder(model, chunk=32, tap=tap), PROMPT, policy=policy)
    gates, ups, _ = mlp_of(model)
    x = tap.of("gate_up", 0).astype(np.float64)
    x_gate, x_up = np.where(np.abs(x) >= np.float32(0.6), x, 0), np.where(np.abs(x) >= np.float32(0.9), x, 0)
    gate, up = x_gate @ gates.T, x_up @ ups.T
    activated = gate / (1 + np.exp(-gate))
    slack = 64 * 2.0**-24 * (np.abs(x_gate) @ np.abs(gates.T)).max()
    assert np.allclose(tap.of("gate", 0), activated, rtol=1e-5, atol=2 * slack)
    down = tap.of("down", 0)
    kept = down != 0
    assert np.allclose(down[kept], (activated * up)[kept], rtol=1e-4, atol=100 * slack)
    assert np.abs(down[kept]).min() >= np.float32(0.2)
    assert 0.1 < kept.mean() < 0.9


def test_neurons_that_are_not_predicted_add_nothing(model: Path) -> None:
    tap = Recorder()
    policy = neuron(TINY, 0.1)
    logits_of(resident_decoder(model, chunk=32, tap=tap), PROMPT, policy=policy)
    chosen = policy.select(0, "neuron", tap.of("gate_up", 0)).masks[0]
    assert not tap.of("down", 0)[~chosen].any()
    assert tap.of("down", 0)[chosen].all()


@pytest.mark.parametrize("name", HALF)
def test_densities_are_the_shares_that_masks_keep(model: Path, name: str) -> None:
    tap = Recorder()
    policy = HALF[name](TINY)
    decoder = resident_decoder(model, chunk=32, tap=tap)
    logits_of(decoder, PROMPT, policy=policy)
    densities = dict(zip(OPERATORS, decoder.take_densities(), strict=True))
    for kind in policy.kinds:
        seen_at: InputKind = "gate_up" if kind == "neuron" else kind
        inputs = [(layer, x) for at, layer, x in tap.seen if at == seen_at]
        for operator in policy.select(0, kind, inputs[0][1]).operators:
            shares = [policy.select(layer, kind, x).mask_of(operator).mean() for layer, x in inputs]
            assert densities[operator] == pytest.approx(np.mean(shares))
