"""The real model: transformers' tokens, transformers' chat template, equal bits everywhere, and the ceiling kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.system.engines import arena_of, checksums_of, options, tokens_of
from tidemill.actors.compute.kernels.elements import widen_array
from tidemill.runtime.engine import Engine
from tidemill.runtime.text.chat_template import ChatTemplate
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.convert.tables import tensors_of
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest, Table
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.shard_reader import read_table

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n    ",
    "<|im_start|>user\nWhat is the boiling point of water in Fahrenheit?<|im_end|>\n<|im_start|>assistant\n",
    "In 1969, 3 astronauts travelled 384400 km. Ünïcödé: 日本語 и кириллица.",
]
COUNTS = [96, 24, 24, 24, 24]  # the first goes far into the context
FEW = 12  # tokens, where every one does the same


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> TextTokenizer:
    return TextTokenizer.open(smollm2, load_manifest(smollm2).decoder.bos_token_id)


def reference(directory: Path) -> transformers.PreTrainedModel:
    """transformers with exactly the converted weights, in float32."""
    manifest = load_manifest(directory)
    config = transformers.LlamaConfig(**json.loads((directory / "config.json").read_bytes()))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    state: dict[str, torch.Tensor] = {}
    for index, table in enumerate(manifest.tables):
        rows = widen_array(read_table(directory, manifest, TableId(index)).reshape(-1), table.element)
        state.update(tensors(manifest, table, rows.reshape(table.bundle_count, table.bundle_elements)))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model


def tensors(
    manifest: Manifest, table: Table, rows: "np.ndarray[tuple[int, int], np.dtype[np.float32]]"
) -> dict[str, torch.Tensor]:
    spec, names = manifest.decoder, tensors_of(manifest.decoder, table.role, table.layer)
    if table.role == "attn_qkv":
        parts = np.split(rows, [spec.q_size, spec.q_size + spec.kv_size])
    elif table.role == "mlp":
        gate, up, down = rows.reshape(-1, 3, spec.hidden_size).transpose(1, 0, 2)
        parts = [gate, up, down.T]
    else:
        parts = [rows[0] if table.layout == "vector" else rows]
    return {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in zip(names, parts, strict=True)}


def test_greedy_tokens_are_those_of_transformers(smollm2: Path, tokenizer: TextTokenizer) -> None:
    model = reference(smollm2)
    with Engine.open(options(smollm2, arena=arena_of(smollm2, 0.9), context=256)) as engine:
        for prompt, count in zip(PROMPTS, COUNTS, strict=True):
            ids = tokenizer.encode(prompt, add_special_tokens=True)
            got = tokens_of(engine, ids, count)
            assert len(got) == count
            # Greedy is what has the most likely token behind each prefix, and one batch gives all of those.
            with torch.no_grad():
                logits = model(torch.tensor([ids + got[:-1]])).logits[0, len(ids) - 1 :]
            assert got == logits.argmax(-1).tolist(), prompt


def test_the_chat_template_and_tokens_are_those_of_transformers(smollm2: Path, tokenizer: TextTokenizer) -> None:
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(smollm2 / "tokenizer.json"), bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    theirs.chat_template = (smollm2 / "chat_template.jinja").read_text()
    template = ChatTemplate.open(smollm2, tokenizer.config)
    conversations = [
        [{"role": "user", "content": "Hello!"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is  the sky blue?\n"}],
        [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}],
    ]
    for messages in conversations:
        for generate in (True, False):
            text = template.render(messages, add_generation_prompt=generate)
            assert text == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
            ids = theirs.apply_chat_template(messages, add_generation_prompt=generate, return_dict=False)
            assert tokenizer.encode(text, add_special_tokens=False) == ids


def test_tokens_survive_a_round_trip_and_digits_stand_alone(tokenizer: TextTokenizer) -> None:
    for prompt in PROMPTS:
        assert tokenizer.decode(tokenizer.encode(prompt.replace("<|im_start|>", ""), add_special_tokens=False)) == (
            prompt.replace("<|im_start|>", "").replace("<|im_end|>", "")
        )
    assert len(tokenizer.encode("384400", add_special_tokens=False)) == 6


@pytest.mark.parametrize(
    ("share", "launcher", "load_mode"),
    [
        (1.0, "local", "direct"),
        (0.75, "local", "direct"),
        (0.5, "local", "buffered"),
        (0.25, "local", "direct"),
        (0.0, "local", "direct"),
        (0.5, "in-process", "direct"),
        (0.0, "in-process", "buffered"),
    ],
)
def test_logits_and_tokens_have_equal_bits_for_every_arena_launcher_and_load_mode(
    smollm2: Path,
    tokenizer: TextTokenizer,
    share: float,
    launcher: str,
    load_mode: str,
    expected: list[tuple[int, int]],
) -> None:
    ids = tokenizer.encode(PROMPTS[1], add_special_tokens=True)
    with Engine.open(
        options(smollm2, launcher=launcher, load_mode=load_mode, arena=arena_of(smollm2, share))
    ) as engine:  # type: ignore[arg-type]
        got = checksums_of(engine, ids, FEW)
        report = engine.report()
    assert report.load_mode == load_mode
    assert (report.streamed_bytes > 0) == (share < 1)
    assert got == expected


@pytest.fixture(scope="module")
def expected(smollm2: Path, tokenizer: TextTokenizer) -> list[tuple[int, int]]:
    """Tokens and logits' checksums of the resident model in one process: every other arrangement has to equal them."""
    with Engine.open(options(smollm2, launcher="in-process")) as engine:
        return checksums_of(engine, tokenizer.encode(PROMPTS[1], add_special_tokens=True), FEW)


OVERHEAD_BYTES_MAX = 450 << 20
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")
UNIFIED_CGROUP = Path("/sys/fs/cgroup/cgroup.controllers")


@pytest.mark.skipif(os.getuid() != 0, reason="making a memory cgroup needs root")
@pytest.mark.parametrize("ram_mib", [360, 450])
def test_a_run_completes_in_a_cgroup_limited_to_exactly_its_ceiling(smollm2: Path, ram_mib: int) -> None:
    done, peak_bytes = run_in_cgroup(smollm2, limit_mib=ram_mib, ram_mib=ram_mib)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["generated_tokens"] == FEW
    assert result["peak_bytes"] <= ram_mib << 20
    assert result["overhead_bytes"] <= OVERHEAD_BYTES_MAX
    assert peak_bytes <= ram_mib << 20


@pytest.mark.skipif(os.getuid() != 0, reason="making a memory cgroup needs root")
def test_a_ceiling_above_the_cgroups_limit_is_refused_before_anything_is_killed(smollm2: Path) -> None:
    done, _ = run_in_cgroup(smollm2, limit_mib=340, ram_mib=500)
    assert done.returncode == 1
    assert "are available; the machine would swap or kill" in done.stderr


def run_in_cgroup(model: Path, *, limit_mib: int, ram_mib: int) -> "tuple[subprocess.CompletedProcess[str], int]":
    """`tidemill run` in a memory cgroup of its own; and the group's peak."""
    group, limit_file, peak_file = make_cgroup(f"tidemill-test-{os.getpid()}")
    try:
        (group / limit_file).write_text(str(limit_mib << 20))
        command = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(model), "-p", PROMPTS[0]]
        command += ["-n", str(FEW), "--ram", f"{ram_mib}MiB", "--json"]
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        done = subprocess.run(["bash", "-c", enter, "bash", *command], capture_output=True, text=True, check=False)
        return done, int((group / peak_file).read_text())
    finally:
        group.rmdir()


def make_cgroup(name: str) -> tuple[Path, str, str]:
    """A child group of the memory controller, v1 or v2, and the names of its limit and peak."""
    if MEMORY_CGROUP.is_dir():
        group = MEMORY_CGROUP / name
        group.mkdir()
        return group, "memory.limit_in_bytes", "memory.max_usage_in_bytes"
    if UNIFIED_CGROUP.exists() and "memory" in UNIFIED_CGROUP.read_text():
        group = UNIFIED_CGROUP.parent / name
        group.mkdir()
        return group, "memory.max", "memory.peak"
    pytest.skip("no memory cgroups here")
