"""Decode speed beside what users would take instead, at the same ceiling of memory and the same speed of the drive.

Contenders: tidemill without drafts and with them, llama-cpp-python through its default mmap (--gguf), transformers with
Accelerate's disk offload (--hf). Each run is a process tree of its own in control groups of its own (memory limit,
throttle on reads; v1 or v2, needs root), after the page cache was emptied; contenders take turns (A B C A B C). What
couldn't be imposed is said. The floor is that of a plain token: a pass that checks drafts brings several, and its
tokens may lie below.

JSON rows go to stdout as they are measured: one for each run, then one for each contender and point with medians and
spread. A table goes to stderr, a plot (tokens/s over the ceiling) to --plot. A contender that is killed for memory is a
result. Ceilings are sizes (2GiB), shares of the model's size in F16 (0.5) or none.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from rich.console import Console

from benchmarks import plot
from benchmarks.contenders import AccelerateDisk, Contender, LlamaCpp, Task, Tidemill
from benchmarks.floor import floor_s_per_token, measure_dram_bytes_per_s, measure_flash_bytes_per_s
from benchmarks.measure import Point, Run, run_once
from benchmarks.report import (
    ModelBytes,
    RoundRow,
    SummaryRow,
    as_parts_table,
    as_table,
    round_row,
    summarise,
    throttle_text,
)
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.sizes import parse_size
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.errors import StorageError
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

TABLE_COLUMNS = 160  # without a terminal
TEXT = (
    "Once upon a time, in a village by the sea, there lived an old woman who mended nets. Every morning she walked "
    "down to the harbour, sat on the same stone and listened to what the boats had to tell. The young fishermen "
    "thought that she was asleep, but she knew each of them by the sound of his steps, and she remembered the storms "
    "that their grandfathers had told her about. One day in autumn a ship came in that nobody had seen before. "
)


@dataclass(frozen=True)
class Model:
    """`whole_bytes` in F16, what shares are of; `token_bytes` as stored, what a token has to be computed with."""

    directory: Path
    manifest: Manifest
    note: str

    @property
    def whole_bytes(self) -> int:
        return 2 * self.manifest.parameter_count

    @property
    def token_bytes(self) -> int:
        embed = self.manifest.get_table("embed")
        rows_only = {embed} - {self.manifest.head_table}  # of an embedding that is no head, one row is read
        return sum(extent.bytes for extent in self.manifest.extents if extent.table not in rows_only)


def open_model(name: str) -> Model:
    directory = resolve_model(name)
    config = directory / "config.json"
    said = json.loads(config.read_bytes()) if config.exists() else {}
    note = ""
    if widened := said.get("widened"):
        note = f"a widened model, {widened['ratio']} × {widened['source']}: its size, not its answers"
    if synthetic := said.get("synthetic"):
        note = f"a synthetic model of random weights, {synthetic['ratio']} × the sizes of {synthetic['shape']}"
    return Model(directory, load_manifest(directory), note)


def compare(arguments: argparse.Namespace, model: Model, contenders: Sequence[Contender]) -> list[RoundRow]:
    """Prints each run's row as it is measured."""
    points = [Point(c, t) for t in arguments.throttles for c in parse_ceilings(arguments.ceilings, model.whole_bytes)]
    rows: list[RoundRow] = []
    expected: tuple[int, ...] = ()
    size = ModelBytes(model.whole_bytes, model.token_bytes / arguments.dram_rate)
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-", dir=arguments.scratch) as scratch:
        task = make_task(arguments, model, Path(scratch))
        turns = [(p, n, c) for p in points for n in range(arguments.rounds) for c in contenders]
        for turn, (point, number, contender) in enumerate(turns):
            given = Task(**{**vars(task), "ceiling_bytes": point.ceiling_bytes})
            run = run_in_turn(contender, given, point, arguments)
            if not expected and contender is contenders[0] and run.decoded:
                expected = run.decoded.token_ids
            row = round_row((contender.name, contender.weights), point, size, number, run, expected)
            rows.append(row)
            print(json.dumps(asdict(row)), flush=True)
            tell(f"{turn + 1} of {len(turns)}: {_short(row)}")
    return rows


def run_in_turn(contender: Contender, task: Task, point: Point, arguments: argparse.Namespace) -> Run:
    """A drive that many share changes within seconds: its rate is taken before and after, where nothing throttles."""
    time.sleep(arguments.pause)
    if point.throttle_bytes_per_s is not None or not isinstance(contender, Tidemill) or point.ceiling_bytes is None:
        return run_once(contender, task, point, arguments.timeout)
    before = measure_flash_bytes_per_s(contender.files)
    run = run_once(contender, task, point, arguments.timeout)
    return replace(run, drive_bytes_per_s=(before + measure_flash_bytes_per_s(contender.files)) / 2)


def summaries_of(arguments: argparse.Namespace, model: Model, rows: Sequence[RoundRow]) -> list[SummaryRow]:
    rates = [row.flash_bytes_per_s for row in rows if row.flash_bytes_per_s and row.throttle_bytes_per_s is None]
    unthrottled = arguments.flash_rate or max(rates, default=None)
    groups: dict[tuple[int | None, int | None], dict[str, list[RoundRow]]] = {}
    for row in rows:
        point = groups.setdefault((row.throttle_bytes_per_s, row.ceiling_bytes), {})
        point.setdefault(row.contender, []).append(row)
    summaries: list[SummaryRow] = []
    for (throttle, ceiling), contenders in groups.items():
        first = next(iter(contenders.values()))
        floor_s = floor_s_per_token(model.token_bytes, ceiling, throttle or unthrottled, arguments.dram_rate)
        name = model.directory.name
        summaries += [
            summarise(own, first=first, floor_s=floor_s, model=name, model_note=model.note)
            for own in contenders.values()
        ]
    return summaries


def cut_prompt(tokenizer: TextTokenizer, text: str, tokens: int) -> str:
    """The text, repeated if it is too short, as far as its first `tokens` tokens go."""
    repeated = text
    while len(tokenizer.encode(repeated, add_special_tokens=False)) < tokens:
        repeated += text
    return tokenizer.decode(tokenizer.encode(repeated, add_special_tokens=False)[:tokens]).strip()


def make_task(arguments: argparse.Namespace, model: Model, scratch: Path, text: str = TEXT) -> Task:
    """The prompt is cut to its length in tokens and given as text."""
    tokenizer = TextTokenizer.open(model.directory, model.manifest.decoder.bos_token_id)
    prompt = cut_prompt(tokenizer, text, arguments.prompt_tokens)
    (scratch / "prompt.txt").write_text(prompt, encoding="utf-8")
    return Task(scratch / "prompt.txt", arguments.tokens, arguments.prompt_tokens, arguments.threads, None, scratch)


def _contenders(arguments: argparse.Namespace, model: Model) -> list[Contender]:
    flags = tuple(arguments.tidemill_flags.split())
    wanted: list[Contender] = [Tidemill(sys.executable, model.directory, flags)]
    if not {"--draft", "--select"} & set(flags):
        wanted.append(Tidemill(sys.executable, model.directory, ("--draft", "auto", *flags), "tidemill, drafts"))
    for name, directory, *extra in arguments.variants:
        wanted.append(Tidemill(sys.executable, resolve_model(directory), tuple(extra), f"tidemill {name}"))
    if arguments.gguf is not None:
        wanted += [LlamaCpp(arguments.llama_python, gguf) for gguf in arguments.gguf]
    if arguments.hf is not None:
        wanted.append(AccelerateDisk(arguments.accelerate_python, arguments.hf))
    return without_problems(wanted)


def without_problems(contenders: Sequence[Contender]) -> list[Contender]:
    """Those that can take part; who can't is told, and why."""
    problems = [contender.problem() for contender in contenders]
    for contender, problem in zip(contenders, problems, strict=True):
        if problem:
            tell(f"{contender.name} is left out: {problem}")
            print(json.dumps({"kind": "left out", "contender": contender.name, "detail": problem}), flush=True)
    return [contender for contender, problem in zip(contenders, problems, strict=True) if not problem]


def parse_ceilings(texts: Sequence[str], whole_bytes: int) -> list[int | None]:
    return [None if t == "none" else int(float(t) * whole_bytes) if _is_share(t) else parse_size(t) for t in texts]


def _is_share(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def parse_throttle(text: str) -> int | None:
    return None if text == "none" else parse_size(text.removesuffix("/s"))


def _short(row: RoundRow) -> str:
    where = f"{row.contender}, {throttle_text(row.throttle_bytes_per_s)}, ceiling {row.ceiling_bytes or 'none'}"
    speed = "" if row.decode_s_per_token is None else f" {row.decode_s_per_token:.3f} s/token"
    return f"{where}: {row.outcome}{speed}{' (' + row.detail + ')' if row.detail else ''}"


def tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="tidemill's, by name or path")
    parser.add_argument("--gguf", type=Path, action="append", help="the same model for llama.cpp; may be repeated")
    parser.add_argument("--hf", type=Path, help="the same model as a Hugging Face directory, for Accelerate")
    parser.add_argument("--llama-python", default=sys.executable, help="a Python that has llama_cpp")
    parser.add_argument("--accelerate-python", default=sys.executable, help="a Python that has accelerate and torch")
    parser.add_argument("--tidemill-flags", default="", help="more flags for `tidemill run`")
    parser.add_argument(
        "--variant", action="append", type=str.split, default=[], dest="variants", metavar="'NAME MODEL FLAGS'",
        help="tidemill again, with another conversion of the model and other flags; may be repeated",
    )  # fmt: skip
    parser.add_argument("--ceilings", help="default 0.75,0.5,0.35")
    parser.add_argument("--throttle", default="none", help="of reads: none,0.8GB/s")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one run")
    parser.add_argument("--flash-rate", type=float, help="bytes/s of the drive; default: tidemill's best, unthrottled")
    parser.add_argument("--dram-rate", type=float, help="bytes/s of the memory; default: measured")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each run, for drives that throttle")
    parser.add_argument("--scratch", type=Path, help="where offloaded weights and logs go; default: the system's")
    parser.add_argument("--plot", type=Path, help="an .svg or .png to draw")
    parser.add_argument("--smoke", action="store_true", help="one short round without a ceiling: does it run?")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds, arguments.tokens, arguments.prompt_tokens = 1, 4, 8
    arguments.ceilings = (arguments.ceilings or ("none" if arguments.smoke else "0.75,0.5,0.35")).split(",")
    arguments.throttles = [parse_throttle(text) for text in arguments.throttle.split(",")]
    for path in (*(arguments.gguf or ()), arguments.hf):
        if path is not None and not path.exists():
            parser.error(f"{path} does not exist")
    if arguments.plot is not None and (problem := plot.find_problem()):
        parser.error(f"--plot: {problem}")
    return arguments


def main() -> None:
    arguments = _parse()
    try:
        model = open_model(arguments.model)
        contenders = _contenders(arguments, model)
    except (StorageError, ValueError, OSError) as error:
        raise SystemExit(f"decode_vs_peers: {error}") from None
    arguments.dram_rate = arguments.dram_rate or measure_dram_bytes_per_s(arguments.threads)
    rows = compare(arguments, model, contenders)
    summaries = summaries_of(arguments, model, rows)
    for summary in summaries:
        print(json.dumps(asdict(summary)))
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else TABLE_COLUMNS)
    console.print(as_table(summaries))
    console.print(as_parts_table(summaries))
    for what in sorted({what for summary in summaries for what in summary.not_imposed}):
        tell(f"not imposed: {what}")
    if arguments.plot is not None:
        plot.plot(summaries, arguments.plot)


if __name__ == "__main__":
    main()
