"""Decode speed of one model: tidemill resident and with part of the weights in the arena, beside llama.cpp if it is
installed.

Contenders take turns, one process each per round, so that drift of a shared machine hits all alike. Prints one JSON
row per
contender: machine, versions, sizes, the median over rounds of each run's median seconds per token, and the spread.
llama.cpp computes with the file's own quantised weights (fewer bytes a token) through its default mmap, without a
ceiling.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tidemill.runtime.catalog import resolve_model
from tidemill.storage.arena_plan import plan_arena
from tidemill.storage.manifest_file import load_manifest

PROMPT = "Once upon a time, in a village by the sea, there lived"
LLAMA_CPP = """
import json, sys, time
from llama_cpp import Llama
path, prompt, count, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
llm = Llama(path, n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False)
times, begun = [], time.perf_counter()
for token in llm.generate(llm.tokenize(prompt.encode()), temp=0.0, repeat_penalty=1.0):
    times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    if len(times) == count:
        break
later = sorted(times[1:])
print(json.dumps({"decode_s_per_token": later[len(later) // 2], "ttft_s": times[0]}))
"""


@dataclass(frozen=True)
class Row:
    """`decode_s_per_token` is the median over rounds; min and max are over rounds too."""

    contender: str
    decode_s_per_token: float
    min_s: float
    max_s: float
    ttft_s: float
    rounds: int
    tokens: int
    streamed_bytes_per_token: float | None
    arena_bytes: int | None
    flash_bytes_per_s: float | None
    machine: str
    versions: dict[str, str]


def contenders(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Command lines that print a JSON object."""
    model = resolve_model(arguments.model)
    whole = plan_arena(load_manifest(model), 1 << 50).arena_bytes
    base = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(model), "-p", PROMPT, "--json"]
    base += ["-n", str(arguments.tokens), "-t", str(arguments.threads), "--ram", "none", "-c", "512", "--draft", "none"]
    commands = {f"tidemill arena {share:.0%}": [*base, "--arena", str(int(whole * share))] for share in (1.0, 0.5)}
    if arguments.gguf is not None:
        script = [arguments.llama_python, "-c", LLAMA_CPP, str(arguments.gguf), PROMPT]
        commands["llama.cpp mmap"] = [*script, str(arguments.tokens), str(arguments.threads)]
    return commands


def measure(command: list[str]) -> dict[str, float | None]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])} … failed:\n{done.stderr}")
    result: dict[str, float | None] = json.loads(done.stdout)
    return result


def summarise(contender: str, results: list[dict[str, float | None]], tokens: int) -> Row:
    def values(name: str) -> list[float]:
        return [value for result in results if (value := result.get(name)) is not None]

    def middle(name: str) -> float | None:
        return median(values(name)) if values(name) else None

    decode = values("decode_s_per_token")
    arena = middle("arena_bytes")
    return Row(
        contender=contender,
        decode_s_per_token=median(decode),
        min_s=min(decode),
        max_s=max(decode),
        ttft_s=median(values("ttft_s")),
        rounds=len(results),
        tokens=tokens,
        streamed_bytes_per_token=middle("bytes_read_per_token"),
        arena_bytes=None if arena is None else int(arena),
        flash_bytes_per_s=middle("flash_bytes_per_s"),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        versions={name: importlib.metadata.version(name) for name in ("tidemill", "numpy", "numba")},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--gguf", type=Path, help="the same model for llama.cpp")
    parser.add_argument("--llama-python", default=sys.executable, help="a Python that has llama_cpp")
    parser.add_argument("--smoke", action="store_true", help="one short round: does it run?")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds, arguments.tokens = 1, 4
    commands = contenders(arguments)
    results: dict[str, list[dict[str, float | None]]] = {name: [] for name in commands}
    for number in range(arguments.rounds):
        for name, command in commands.items():
            sys.stderr.write(f"round {number + 1} of {arguments.rounds}: {name}\n")
            results[name].append(measure(command))
    for name, measured in results.items():
        print(json.dumps(asdict(summarise(name, measured, arguments.tokens))))


if __name__ == "__main__":
    main()
