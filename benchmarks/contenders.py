"""Who decodes: command lines for one run of each contender, and what they print, read into one form."""

import csv
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidemill.storage.convert.gguf_header import read_gguf_header

PEERS = Path(__file__).resolve().parent / "peers"
FILE_TYPES = {0: "f32", 1: "f16", 32: "bf16"}  # of general.file_type; others are quantised
FOUND_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Task:
    """What every contender is asked; the same text for all, tokenised by each."""

    prompt_file: Path
    tokens: int
    prompt_tokens: int
    threads: int
    ceiling_bytes: int | None
    scratch: Path  # a directory of this run alone

    @property
    def context(self) -> int:
        return self.prompt_tokens + self.tokens + 8


@dataclass(frozen=True)
class Decoded:
    """`token_s[0]` is the prompt's time. None: the contender doesn't say."""

    prompt_tokens: int
    token_ids: tuple[int, ...]
    token_s: tuple[float, ...]
    load_s: float | None
    bytes_read_per_token: float | None = None
    flash_bytes_per_s: float | None = None  # while reads were under way
    stall_s_per_token: float | None = None
    compute_s_per_token: float | None = None
    management_s_per_token: float | None = None


class Contender(Protocol):
    """`weights` says which ones it computes with; bf16 are the model's own."""

    name: str
    weights: str
    files: Path

    def command(self, task: Task) -> list[str]: ...

    def read(self, stdout: str, task: Task) -> Decoded: ...

    def problem(self) -> str:
        """Why it can't take part, or nothing."""
        ...


class Tidemill:
    """Without drafts, unless `extra` says otherwise: what it reads for a token is then what the floor counts."""

    def __init__(self, python: str, model: Path, extra: tuple[str, ...] = (), name: str = "tidemill") -> None:
        self.name = name
        self.weights = "bf16"
        self.files = model
        self._python = python
        self._extra = extra if {"--draft", "--select"} & set(extra) else ("--draft", "none", *extra)

    def command(self, task: Task) -> list[str]:
        ram = "none" if task.ceiling_bytes is None else str(task.ceiling_bytes)
        base = [self._python, "-m", "tidemill.runtime.cli.main", "run", "-m", str(self.files), "--json", "--ram", ram]
        base += ["-f", str(task.prompt_file), "-n", str(task.tokens), "-c", str(task.context), "-t", str(task.threads)]
        return [*base, "--csv", str(task.scratch / "tokens.csv"), *self._extra]

    def read(self, stdout: str, task: Task) -> Decoded:
        summary = json.loads(stdout)
        with (task.scratch / "tokens.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
        times = [int(row["elapsed_ns"]) / 1e9 for row in rows]
        return Decoded(
            prompt_tokens=summary["prompt_tokens"],
            token_ids=tuple(int(row["token_id"]) for row in rows),
            token_s=(summary["ttft_s"], *times[1:]) if times else (),
            load_s=None,
            bytes_read_per_token=summary["bytes_read_per_token"],
            flash_bytes_per_s=summary["flash_bytes_per_s"],
            stall_s_per_token=summary["stall_s_per_token"],
            compute_s_per_token=summary["compute_s_per_token"],
            management_s_per_token=summary["management_s_per_token"],
        )

    def problem(self) -> str:
        return ""


class LlamaCpp:
    def __init__(self, python: str, gguf: Path) -> None:
        kind = read_gguf_header(gguf).values.get("general.file_type")
        self.weights = FILE_TYPES.get(kind, "quantised") if isinstance(kind, int) else "unknown"
        self.name = f"llama.cpp mmap {self.weights}"
        self.files = gguf
        self._python = python

    def command(self, task: Task) -> list[str]:
        numbers = [str(task.tokens), str(task.threads), str(task.context)]
        return [self._python, str(PEERS / "decode_llama_cpp.py"), str(self.files), str(task.prompt_file), *numbers]

    def read(self, stdout: str, task: Task) -> Decoded:
        return _read_peer(stdout)

    def problem(self) -> str:
        return find_problem(self._python, "llama_cpp")


class AccelerateDisk:
    def __init__(self, python: str, directory: Path) -> None:
        self.name = "accelerate disk"
        self.weights = "bf16"
        self.files = directory
        self._python = python

    def command(self, task: Task) -> list[str]:
        numbers = [str(task.tokens), str(task.threads), str(task.ceiling_bytes or 0)]
        base = [self._python, str(PEERS / "decode_accelerate.py"), str(self.files), str(task.prompt_file)]
        return [*base, *numbers, str(task.scratch / "offload")]

    def read(self, stdout: str, task: Task) -> Decoded:
        return _read_peer(stdout)

    def problem(self) -> str:
        return find_problem(self._python, "accelerate", "transformers", "torch")


def find_problem(python: str, *modules: str) -> str:
    code = f"import importlib.util as u; print(*[n for n in {modules!r} if u.find_spec(n) is None])"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=FOUND_DEADLINE_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{python} does not run: {error}"
    return f"{python} has no {', '.join(done.stdout.split())}" if done.stdout.strip() else ""


def _read_peer(stdout: str) -> Decoded:
    """The last line: libraries may have printed before it."""
    printed = json.loads(stdout.splitlines()[-1])
    return Decoded(
        printed["prompt_tokens"], tuple(printed["token_ids"]), tuple(printed["token_s"]), load_s=printed["load_s"]
    )
