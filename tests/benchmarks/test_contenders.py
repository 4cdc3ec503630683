import json
import sys
from pathlib import Path

import gguf
import pytest

from benchmarks.contenders import AccelerateDisk, LlamaCpp, Task, Tidemill, find_problem
from tests.fakes.gguf_files import write_gguf

PARTS = {"stall_s_per_token": 0.3, "compute_s_per_token": 0.2, "management_s_per_token": 0.1}


def task_of(directory: Path, ceiling: int | None = 1000) -> Task:
    return Task(directory / "prompt.txt", 3, 8, 2, ceiling, directory)


def test_tidemills_times_are_those_of_its_tokens_with_the_wait_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "tokens.csv").write_text(
        "# tidemill 1\nindex,token_id,elapsed_ns,compute_ns,stall_ns,flash_bytes\n"
        "0,7,1000000000,1,1,1\n1,8,500000000,1,1,1\n# summary decode_s_per_token 0.5 ttft_s 2.5\n"
    )
    summary = {"prompt_tokens": 8, "ttft_s": 2.5, "bytes_read_per_token": 99, "flash_bytes_per_s": 5.0, **PARTS}
    decoded = Tidemill("python", tmp_path).read(json.dumps(summary), task_of(tmp_path))
    assert (decoded.token_ids, decoded.token_s) == ((7, 8), (2.5, 0.5))
    assert (decoded.bytes_read_per_token, decoded.flash_bytes_per_s) == (99, 5.0)
    assert (decoded.stall_s_per_token, decoded.compute_s_per_token, decoded.management_s_per_token) == (0.3, 0.2, 0.1)


@pytest.mark.parametrize(("ceiling", "flag"), [(1000, "1000"), (None, "none")])
def test_tidemill_is_given_the_ceiling_and_flags(tmp_path: Path, ceiling: int | None, flag: str) -> None:
    command = Tidemill("python", tmp_path, ("--io-depth", "8")).command(task_of(tmp_path, ceiling))
    assert command[command.index("--ram") + 1] == flag
    assert command[-2:] == ["--io-depth", "8"]


def test_a_peers_last_line_is_what_counts(tmp_path: Path) -> None:
    printed = json.dumps({"load_s": 1.5, "prompt_tokens": 8, "token_ids": [1, 2], "token_s": [0.5, 0.25]})
    decoded = AccelerateDisk("python", tmp_path).read(f"a warning\n{printed}\n", task_of(tmp_path))
    assert (decoded.token_ids, decoded.token_s, decoded.load_s) == ((1, 2), (0.5, 0.25), 1.5)


@pytest.mark.parametrize(("file_type", "weights"), [(1, "f16"), (32, "bf16"), (3, "quantised"), (None, "unknown")])
def test_llama_cpps_weights_are_named_after_the_file(tmp_path: Path, file_type: int | None, weights: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    assert LlamaCpp("python", tmp_path / "model.gguf").name == f"llama.cpp mmap {weights}"


@pytest.mark.system
def test_a_contender_says_why_it_cannot_take_part(tmp_path: Path) -> None:
    assert find_problem(sys.executable, "json") == ""
    assert find_problem(sys.executable, "json", "no_such_module") == f"{sys.executable} has no no_such_module"
    assert find_problem(str(tmp_path / "python"), "json").startswith(f"{tmp_path / 'python'} does not run")
    write_gguf(tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.BF16)
    assert "does not run" in LlamaCpp(str(tmp_path / "python"), tmp_path / "tiny.gguf").problem()
