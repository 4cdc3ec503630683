"""`tidemill trace` on small models in the in-process launcher; what it records is what the run computed with."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.policy_replay import main as replay
from benchmarks.recorded_trace import load_recorded_trace
from tests.fakes.lossy_models import CHOICES, HALF_OF
from tidemill.runtime.cli.main import app
from tidemill.runtime.events import ChannelsTraced, TokenGenerated
from tidemill.runtime.llm import LLM
from tidemill.storage.convert.trace_order import orders_from_trace
from tidemill.storage.trace.trace_reader import TraceReader

pytestmark = pytest.mark.slow
PROMPT = "w5 w80 w33 w2"
COUNT = 6


def trace(model: Path, output: Path, *flags: str, status: int = 0, count: int = COUNT) -> tuple[str, str]:
    command = ["trace", "-m", str(model), "--launcher", "in-process", "--ram", "none", "-p", PROMPT, "-n", str(count)]
    result = CliRunner().invoke(app, [*command, "-o", str(output), *flags])
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def flags_of(layout: str) -> list[str]:
    return ["--select", HALF_OF[layout].policy, "--sparsity", "0.5"]


@pytest.mark.parametrize("layout", CHOICES)
def test_every_decoded_position_has_its_rows(lossy_models: Mapping[str, Path], layout: str, tmp_path: Path) -> None:
    out, _ = trace(lossy_models[layout], tmp_path / "a.arrow", *flags_of(layout), "--json")
    told = json.loads(out)
    assert told["trace_positions"] == COUNT - 1
    with TraceReader(tmp_path / "a.arrow") as reader:
        header, rows = reader.header, [(row.position, row.layer, row.input) for row in reader]
    assert header.prompt_positions == 4
    assert (header.policy, header.sparsity) == (HALF_OF[layout].name, 0.5)
    assert rows == [
        (position, layer, name)
        for position in range(4, 4 + COUNT - 1)
        for layer in range(header.layer_count)
        for name in header.inputs
    ]


@pytest.mark.parametrize("layout", CHOICES)
def test_tracing_moves_no_bit(lossy_models: Mapping[str, Path], layout: str) -> None:
    checksums = []
    for traces in (False, True):
        with LLM.open(
            lossy_models[layout], ram=None, threads=2, launcher="in-process", selection=HALF_OF[layout], traces=traces
        ) as llm:
            events = list(llm.start(PROMPT, max_tokens=COUNT).events())
        assert any(isinstance(event, ChannelsTraced) for event in events) == traces
        checksums.append([event.logits_checksum for event in events if isinstance(event, TokenGenerated)])
    assert checksums[0] == checksums[1]


def test_rows_count_what_the_run_used(lossy_models: Mapping[str, Path], tmp_path: Path) -> None:
    out, _ = trace(lossy_models["groups"], tmp_path / "a.arrow", *flags_of("groups"), "--json")
    with TraceReader(tmp_path / "a.arrow") as reader:
        active = sum(row.selected.size for row in reader)
    told = json.loads(out)
    assert told["bundles"]["used"] == active
    assert told["active"]["hit_rate"] + told["active"]["preloaded_share"] + told["active"]["on_demand_share"] == 1


def test_quotas_move_unless_told_otherwise_and_the_tokens_are_the_same(
    lossy_models: Mapping[str, Path], tmp_path: Path
) -> None:
    told = []
    for name, flags in (("moving", ()), ("fixed", ("--quotas", "fixed"))):
        given = (*flags_of("groups"), "--arena", "2600000", "--json", *flags)
        told.append(json.loads(trace(lossy_models["groups"], tmp_path / name, *given, count=20)[0]))
    moving, fixed = told
    assert moving["bundles"]["quota_moved"] > 0 == fixed["bundles"]["quota_moved"]
    assert moving["token_ids"] == fixed["token_ids"]
    assert moving["bundles"]["used"] == fixed["bundles"]["used"]
    refused = trace(
        lossy_models["groups"], tmp_path / "lru", *flags_of("groups"), "--residency", "lru", "--quotas", "adaptive",
        status=1,
    )  # fmt: skip
    assert "a residency that counts uses: --residency lfu, got lru" in refused[1]


@pytest.mark.parametrize("layout", CHOICES)
def test_the_computed_share_is_that_of_the_rows(lossy_models: Mapping[str, Path], layout: str, tmp_path: Path) -> None:
    out, _ = trace(lossy_models[layout], tmp_path / "a.arrow", *flags_of(layout), "--json", "--allocation", "greedy")
    computed = json.loads(out)["active"]["computed_share"]
    with TraceReader(tmp_path / "a.arrow") as reader:
        used = {name: [row.selected.size for row in reader if row.input == name] for name in reader.header.inputs}
        shares = {name: sum(sizes) / len(sizes) / reader.header.channels[name] for name, sizes in used.items()}
    if layout in ("gates", "neurons"):
        assert computed["up"] == computed["down"] == pytest.approx(shares["neuron"], abs=1e-6)
        assert computed["gate"] == (1 if layout == "gates" else computed["up"])
        assert computed["q"] == computed["o"] == 1
    else:
        assert computed["o"] == pytest.approx(shares["o"], abs=1e-6)
        assert max(computed["q"], computed["k"], computed["v"]) == pytest.approx(shares["qkv"], abs=1e-6)


def test_inputs_that_stay_whole_are_not_recorded(lossy_models: Mapping[str, Path], tmp_path: Path) -> None:
    trace(lossy_models["channels"], tmp_path / "a.arrow", *flags_of("channels"), "--operators", "up,o")
    with TraceReader(tmp_path / "a.arrow") as reader:
        assert set(reader.header.inputs) == {"o", "gate_up"}
        assert {row.input for row in reader} == {"o", "gate_up"}


def test_a_trace_orders_neurons_and_is_replayed(
    lossy_models: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, err = trace(lossy_models["channels"], tmp_path / "a.arrow", *flags_of("channels"))
    assert "5 positions of topk 50%" in err
    orders = orders_from_trace(tmp_path / "a.arrow", "frequency", layer_count=4, neuron_count=128)
    assert np.array_equal(np.sort(orders[3]), np.arange(128))
    assert load_recorded_trace(tmp_path / "a.arrow").position_count == COUNT - 1
    monkeypatch.setattr("sys.argv", ["policy_replay.py", str(tmp_path / "a.arrow"), "--sizes", "0.5", "--json"])
    replay()
    assert all(json.loads(line)["tokens"] == COUNT - 1 for line in capsys.readouterr().out.splitlines())


def test_what_cannot_be_recorded_is_said(lossy_models: Mapping[str, Path], tmp_path: Path) -> None:
    taken, wanted = tmp_path / "taken.arrow", tmp_path / "a.arrow"
    taken.write_text("mine")
    assert "exists already" in trace(lossy_models["channels"], taken, *flags_of("channels"), status=1)[1]
    assert taken.read_text() == "mine"
    assert "choose it with --select" in trace(lossy_models["channels"], wanted, status=1)[1]
    assert "Convert it: tidemill convert" in trace(lossy_models["dense"], wanted, *flags_of("channels"), status=1)[1]
    assert "nothing was decoded" in trace(lossy_models["channels"], wanted, *flags_of("channels"), status=1, count=1)[1]
    assert list(tmp_path.iterdir()) == [taken]
