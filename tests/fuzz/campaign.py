"""`make fuzz`: every target under libFuzzer, by way of atheris, for a bounded time each; says how many executions."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

TARGETS = (
    "calibration", "chat_template", "codecs", "control", "gguf_file", "links", "manifest", "ring", "safetensors_file",
    "shard", "source_config", "trace",
)  # fmt: skip
WORK = Path(".fuzz")  # corpora, which later campaigns begin with, and inputs that broke something
INPUT_BYTES_MAX = 1 << 18
MEMORY_MIB_MAX = 2048
INPUT_SECONDS_MAX = 20
START_SECONDS = 300.0


class Outcome(NamedTuple):
    name: str
    executions: int
    problem: str  # empty for none


def run_campaign(seconds: int) -> int:
    """An exit status: 0 when nothing was found."""
    outcomes = []
    for name in TARGETS:
        outcomes.append(_run_target(name, seconds))
        print(
            f"{name:20} {outcomes[-1].executions:>10} executions  {outcomes[-1].problem or 'nothing found'}", flush=True
        )
    total = sum(outcome.executions for outcome in outcomes)
    print(f"{'all':20} {total:>10} executions")
    return int(any(outcome.problem for outcome in outcomes))


def _run_target(name: str, seconds: int) -> Outcome:
    corpus, found = WORK / "corpus" / name, WORK / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": INPUT_BYTES_MAX,
        "rss_limit_mb": MEMORY_MIB_MAX,
        "timeout": INPUT_SECONDS_MAX,
        "artifact_prefix": f"{found}/{name}-",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "tests.fuzz", name, str(corpus), *(f"-{k}={v}" for k, v in options.items())]
    log = found / f"{name}.log"
    with log.open("wb") as file:
        try:
            status = subprocess.run(
                command, stdout=file, stderr=file, timeout=seconds + START_SECONDS, check=False, env=os.environ
            ).returncode
        except subprocess.TimeoutExpired:
            return Outcome(name, 0, f"it did not end; see {log}")
    text = log.read_text(errors="replace")
    counted = re.findall(r"number_of_executed_units: (\d+)", text) or re.findall(r"^#(\d+)", text, re.MULTILINE)
    problem = "" if status == 0 and counted else f"exit status {status}; see {log}, and the input beside it"
    return Outcome(name, int(counted[-1]) if counted else 0, problem)
