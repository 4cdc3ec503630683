"""Whole cells over layouts whose bundles come one by one: whatever residency, preloads, order and faults do, the tokens
are those of the resident model with the same selection."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.cells import FakeCell
from tests.fakes.flash import Faults
from tests.fakes.layouts import BLOCKY, write_blocky_model
from tests.fakes.resident import logits_of, resident_decoder
from tests.fakes.selections import EVERYTHING, HALF, neuron
from tidemill.actors.arena.prefetch_gate import GateRules
from tidemill.actors.arena.residency.choose_policy import ResidencyChoice, ResidencyKind
from tidemill.actors.compute.selection.foresight import Foresight
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.counters import Counter
from tidemill.actors.messages import StepFailed, TokensSampled
from tidemill.actors.packing import unpack_tokens
from tidemill.actors.predictor.config import PreloadKind
from tidemill.storage.arena_plan import ArenaPlan, ArenaTooSmallError, plan_arena
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.manifest import Manifest, Role
from tidemill.storage.manifest_file import load_manifest

PROMPT = [5, 80, 33, 2, 61, 17, 9]
COUNT = 4
LAYOUTS = {
    "channels": (LayoutChoice("input-channel", 1), ["topk, an input alike", "topk, all apart"]),
    "groups": (LayoutChoice("input-channel", 3), ["topk, an input alike", "topk, all apart"]),
    "gates": (LayoutChoice("gate-first", 1), ["gate"]),
    "neurons": (LayoutChoice("neuron", 1), ["neuron"]),
}
# Open at every other token: of the fake clock's many looks, a few are a token.
GATE = GateRules(in_flight_bytes=4096, demand_rate=1e9, preload_rate=4e9, slack_ratio=1e6, first_wait_tokens=1)
CASES = [(name, policy) for name, (_, policies) in LAYOUTS.items() for policy in [None, *policies]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("layouts")
    for name, (choice, _) in LAYOUTS.items():
        write_blocky_model(root / name, choice)
    return {name: root / name for name in LAYOUTS}


def policy_of(name: str | None) -> SelectionPolicy | None:
    return None if name is None else HALF[name](BLOCKY)


def expected_tokens(model: Path, policy: SelectionPolicy | None) -> list[int]:
    """The prompt with everything, then one token after the other with what the policy selects."""
    decoder = resident_decoder(model)
    logits = logits_of(decoder, PROMPT, want="last")
    tokens: list[int] = []
    for position in range(len(PROMPT), len(PROMPT) + COUNT):
        tokens.append(int(np.argmax(logits[-1])))
        logits = logits_of(decoder, tokens[-1:], position, want="last", policy=policy)
    return tokens


def plan_of(manifest: Manifest, share: float) -> ArenaPlan:
    """The arena at its minimum, plus a share of what is between that and the whole."""
    with pytest.raises(ArenaTooSmallError) as caught:
        plan_arena(manifest, 1)
    least, most = caught.value.minimum_bytes, plan_arena(manifest, 1 << 40).arena_bytes
    return plan_arena(manifest, least + int(share * max(0, most - least)))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.2])
@pytest.mark.parametrize(("layout", "policy"), CASES)
def test_tokens_are_those_of_the_resident_model(
    models: dict[str, Path], layout: str, policy: str | None, share: float
) -> None:
    manifest = load_manifest(models[layout])
    expected = expected_tokens(models[layout], policy_of(policy))
    for seed in range(2):
        cell = FakeCell(models[layout], plan_of(manifest, share), seed=seed, policy=policy_of(policy))
        assert cell.greedy(PROMPT, COUNT) == expected, f"{cell}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lfu", "lru", "window", "none"])
def test_residency_moves_no_bit(models: dict[str, Path], kind: ResidencyKind) -> None:
    manifest = load_manifest(models["groups"])
    policy = policy_of("topk, all apart")
    plan = plan_of(manifest, 0.5)
    cell = FakeCell(models["groups"], plan, seed=1, policy=policy, residency=ResidencyChoice(kind))
    assert cell.greedy(PROMPT, COUNT) == expected_tokens(models["groups"], policy)
    assert cell.counters[Counter.BUNDLES_USED] > 0


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_quotas_that_move_move_no_bit(models: dict[str, Path], layout: str) -> None:
    manifest = load_manifest(models[layout])
    policy = policy_of(LAYOUTS[layout][1][-1])
    plan = plan_of(manifest, 0.85 if layout in ("gates", "neurons") else 0.5)
    tokens = []
    for quotas in ("fixed", "adaptive"):
        choice = ResidencyChoice("lfu", quotas=quotas)  # type: ignore[arg-type]
        cell = FakeCell(models[layout], plan, seed=1, policy=policy, residency=choice)
        tokens.append(cell.greedy(PROMPT, 20))
        assert (cell.counters[Counter.QUOTA_MOVED] > 0) == (quotas == "adaptive")
    assert tokens[0] == tokens[1]
    assert tokens[0][:COUNT] == expected_tokens(models[layout], policy)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["channels", "groups"])
@pytest.mark.parametrize("gate", [None, GATE], ids=["free", "gated"])
@pytest.mark.parametrize("preload", ["scaled", "cross-layer", "previous-token", "popularity"])
def test_preloading_moves_no_bit(
    models: dict[str, Path], layout: str, preload: PreloadKind, gate: GateRules | None
) -> None:
    manifest = load_manifest(models[layout])
    policy = policy_of("topk, all apart")
    expected = expected_tokens(models[layout], policy)
    for seed, share in ((1, 0.1), (2, 0.6)):
        cell = FakeCell(models[layout], plan_of(manifest, share), seed=seed, policy=policy, preload=preload, gate=gate)
        assert cell.greedy(PROMPT, COUNT) == expected, f"{cell}"
        assert cell.counters[Counter.PRELOAD_USEFUL_BYTES] + cell.counters[Counter.PRELOAD_WASTED_BYTES] > 0
        assert cell.counters[Counter.PRELOAD_TOKENS] == (COUNT - 2 if gate is None else 1)


@pytest.mark.slow
@pytest.mark.parametrize("gate", [None, GATE], ids=["free", "gated"])
@pytest.mark.parametrize("layout", ["gates", "neurons"])
@pytest.mark.parametrize("preload", ["look-ahead", "previous-token", "popularity"])
def test_preloading_neurons_moves_no_bit(
    models: dict[str, Path], layout: str, preload: PreloadKind, gate: GateRules | None
) -> None:
    manifest = load_manifest(models[layout])
    policy = policy_of(LAYOUTS[layout][1][0])
    expected = expected_tokens(models[layout], policy)
    likely = neuron(BLOCKY, 0.1)
    foresight = Foresight(likely.predictors, likely.thresholds) if preload == "look-ahead" else None
    for seed, share in ((1, 0.8), (2, 0.9)):
        cell = FakeCell(
            models[layout], plan_of(manifest, share), seed=seed, policy=policy, preload=preload, gate=gate,
            foresight=foresight,
        )  # fmt: skip
        assert cell.greedy(PROMPT, COUNT) == expected, f"{cell}"
        assert gate or cell.counters[Counter.PRELOAD_USEFUL_BYTES] + cell.counters[Counter.PRELOAD_WASTED_BYTES] > 0


@pytest.mark.slow
def test_a_model_all_of_whose_tables_are_grouped_has_the_same_tokens(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles: tuple[Role, ...] = ("attn_qkv", "attn_out", "mlp_in", "mlp_down")
    monkeypatch.setattr("tidemill.storage.convert.tables.GROUPED_ROLES", roles)
    manifest = write_blocky_model(tmp_path / "m", LAYOUTS["groups"][0])
    policy = policy_of("topk, all apart")
    cell = FakeCell(tmp_path / "m", plan_of(manifest, 0.3), seed=3, policy=policy, preload="scaled")
    assert cell.greedy(PROMPT, COUNT) == expected_tokens(models["groups"], policy)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_everything_selected_is_exact(models: dict[str, Path], layout: str) -> None:
    """At sparsity 0 a policy has the bits of a dense step."""
    name = {"channels": "topk", "groups": "topk", "gates": "gate", "neurons": "neuron"}[layout]
    decoder = resident_decoder(models[layout])
    exact = logits_of(decoder, PROMPT)
    assert np.array_equal(logits_of(decoder, PROMPT, policy=EVERYTHING[name](BLOCKY)), exact)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk", [2, 3, 8])
def test_a_batch_has_the_bits_of_single_positions_under_selection(
    models: dict[str, Path], layout: str, chunk: int
) -> None:
    policy = policy_of(LAYOUTS[layout][1][-1])
    decoder = resident_decoder(models[layout])
    single = [logits_of(decoder, [token], i, policy=policy) for i, token in enumerate(PROMPT)]
    batched = [logits_of(decoder, PROMPT[i : i + chunk], i, policy=policy) for i in range(0, len(PROMPT), chunk)]
    assert np.array_equal(np.concatenate(batched), np.concatenate(single))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(4))
def test_faults_are_retried_or_said_and_the_next_step_is_right(models: dict[str, Path], layout: str, seed: int) -> None:
    manifest = load_manifest(models[layout])
    policy = policy_of(LAYOUTS[layout][1][0])
    expected = expected_tokens(models[layout], policy)
    faults = Faults(delay=0.3, error=0.002, corrupt=0.002, short=0.002)  # of each of a gather's many reads
    preload: PreloadKind = "cross-layer" if seed % 2 else "none"
    cell = FakeCell(models[layout], plan_of(manifest, 0.4), seed=seed, policy=policy, faults=faults, preload=preload)
    tokens: list[int] = []
    pending, start, failures = PROMPT, 0, 0
    while len(tokens) < COUNT:
        message = cell.run(pending, start)
        if isinstance(message, StepFailed):
            assert re.search(r"could not be read in [234] tries", message.what)
            failures += 1
            assert failures < 30, f"{cell}"
            continue
        assert isinstance(message, TokensSampled), f"{cell}: {message}"
        start += len(pending)
        pending = unpack_tokens(message.token_ids)
        tokens += pending
    assert tokens == expected, f"{cell}"


@pytest.mark.slow
def test_a_step_that_is_cancelled_anywhere_leaves_the_next_one_right(models: dict[str, Path]) -> None:
    manifest = load_manifest(models["groups"])
    policy = policy_of("topk, all apart")
    expected = expected_tokens(models["groups"], policy)
    for seed in range(8):
        cell = FakeCell(models["groups"], plan_of(manifest, 0.3), seed=seed, policy=policy, preload="scaled")
        cell.run(PROMPT[:5], 0, cancel_after=11 * seed)
        cell.run(PROMPT[:5], 0)
        cell.run(PROMPT[5:6], 5, cancel_after=7 * seed)  # of a step that selects: with preloads under way
        assert cell.greedy(PROMPT, COUNT) == expected, f"{cell}"
