"""Decode speed with drafts beside none and beside llama.cpp mmap, on three kinds of text.

    python benchmarks/fixtures/draft_texts.py gensim-4.4.0-*.whl texts
    sudo .venv/bin/python benchmarks/draft_vs_peers.py --model x4.tidemill --gguf x4-f16.gguf --texts texts \\
      --ceilings none,0.65,0.3 --throttle none,0.8GB/s --out drafts.jsonl --plot drafts.svg

Contenders: `tidemill run --draft KIND` for each of --drafts (none first; KIND@N: with --draft-length N), on each of
--kinds (prose; prose@0.7: at that temperature), and llama-cpp-python through its default mmap (--gguf). At every
throttle and ceiling they take turns, every run a process tree of its own in control groups of its own, after the page
cache was emptied (see decode_vs_peers.py). The same text has to give the same tokens at every ceiling and with every
draft (`identical`).

JSON rows go to stdout and to the end of --out: one for each run, and one for each contender, point and text (median,
least and most). Runs that --out holds already are not measured again: same code (--label), model, flags, text, point
and round. Tables go to stderr.

A peer's speed hangs on what it reads and on no text: it decodes --peer-tokens of the first text, once a round. Speeds
are means over the tokens after the first. With `none` among --ceilings, `× memory` is over the peer that has all of the
model in memory.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from rich.console import Console

from benchmarks import plot
from benchmarks.contenders import Contender, LlamaCpp, Task
from benchmarks.decode_vs_peers import (
    TEXT,
    Model,
    make_task,
    open_model,
    parse_ceilings,
    parse_throttle,
    run_in_turn,
    tell,
    without_problems,
)
from benchmarks.draft_report import as_anatomy_table, as_table, plot_speed
from benchmarks.draft_rows import NONE, DraftRow, DraftTidemill, DraftWhere, draft_row, summarise_all
from benchmarks.fixtures.draft_texts import KINDS
from benchmarks.measure import Point
from benchmarks.measured_rows import MeasuredRows, code_revision
from tidemill.storage.errors import StorageError

TABLE_COLUMNS = 200  # without a terminal
BUILT_IN = "built-in"  # the text without --texts


@dataclass(frozen=True)
class Turn:
    point: Point
    text: str
    round: int
    contender: Contender
    flags: tuple[str, ...]
    tokens: int


class Comparison:
    def __init__(self, arguments: argparse.Namespace, model: Model, measured: MeasuredRows[DraftRow]) -> None:
        self._arguments = arguments
        self._model = model
        self._measured = measured
        self.seen: list[DraftRow] = []

    def run(self, peers: Sequence[Contender], texts: dict[str, str]) -> None:
        turns = list(self._turns(peers, list(texts)))
        with tempfile.TemporaryDirectory(prefix="tidemill-bench-", dir=self._arguments.scratch) as scratch:
            tasks: dict[str, Task] = {}
            for name, text in texts.items():
                (Path(scratch) / name).mkdir()
                tasks[name] = make_task(self._arguments, self._model, Path(scratch) / name, text)
            for number, turn in enumerate(turns, 1):
                where = self._where(turn)
                row = self._measured.find(where) or self._measure(turn, where, tasks[turn.text])
                self.seen.append(row)
                tell(f"{number} of {len(turns)}: {_short(row)}")

    def _turns(self, peers: Sequence[Contender], texts: Sequence[str]) -> Iterator[Turn]:
        arguments = self._arguments
        throttles = [parse_throttle(text) for text in arguments.throttle.split(",")]
        ceilings = parse_ceilings(arguments.ceilings.split(","), self._model.whole_bytes)
        for throttle, ceiling, number in product(throttles, ceilings, range(arguments.rounds)):
            point = Point(ceiling, throttle)
            for peer in peers:
                yield Turn(point, texts[0], number, peer, (), min(arguments.tokens, arguments.peer_tokens))
            for text, draft in product(texts, arguments.drafts.split(",")):
                flags = (*run_flags(draft, text), *arguments.tidemill_flags.split())
                contender = DraftTidemill(sys.executable, self._model.directory, flags, f"tidemill {draft}")
                is_slow = draft == "none" and ceiling is not None
                tokens = min(arguments.tokens, arguments.plain_tokens) if is_slow else arguments.tokens
                yield Turn(point, text, number, contender, flags, tokens)

    def _measure(self, turn: Turn, where: DraftWhere, task: Task) -> DraftRow:
        given = replace(task, ceiling_bytes=turn.point.ceiling_bytes, tokens=turn.tokens)
        run = run_in_turn(turn.contender, given, turn.point, self._arguments)
        own = (where.label, where.model, where.text, NONE)
        ours = [row for row in self._measured.rows if _who(row.where) == own]
        expected = max((row.token_ids for row in ours), key=len, default=())
        if not expected and run.decoded and turn.contender.name == NONE:
            expected = run.decoded.token_ids
        row = draft_row(where, turn.point, self._model.whole_bytes, run, expected)
        self._measured.add(row)
        return row

    def _where(self, turn: Turn) -> DraftWhere:
        return DraftWhere(
            label=self._arguments.label,
            model=self._model.directory.name,
            text=turn.text,
            contender=turn.contender.name,
            flags=turn.flags,
            ceiling_bytes=turn.point.ceiling_bytes,
            throttle_bytes_per_s=turn.point.throttle_bytes_per_s,
            tokens=turn.tokens,
            prompt_tokens=self._arguments.prompt_tokens,
            round=turn.round,
        )


def _who(where: DraftWhere) -> tuple[str, str, str, str]:
    return where.label, where.model, where.text, where.contender


def run_flags(draft: str, text: str) -> tuple[str, ...]:
    """`planes@4` and `prose@0.7` → flags of `tidemill run`."""
    (kind, _, length), (_, _, temperature) = draft.partition("@"), text.partition("@")
    flags = ["--draft", kind]
    flags += ["--draft-length", length] if length else []
    return tuple(flags + (["--temp", temperature] if temperature else []))


def read_texts(directory: Path | None, kinds: Sequence[str]) -> dict[str, str]:
    """`kinds` may have temperatures. Raises OSError."""
    if directory is None:
        return {BUILT_IN: TEXT}
    return {kind: (directory / f"{kind.partition('@')[0]}.txt").read_text(encoding="utf-8") for kind in kinds}


def _short(row: DraftRow) -> str:
    where = row.where
    speed = "" if row.s_per_token is None else f" {1 / row.s_per_token:.2f} tokens/s"
    told = f" ({row.detail})" if row.detail else ", ANOTHER TEXT" if row.identical is False else ""
    return f"ceiling {where.ceiling_bytes or 'none'}, {where.text}, {where.contender}: {row.outcome}{speed}{told}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, help="tidemill's, by name or path")
    add("--gguf", type=Path, action="append", default=[], help="the same model for llama.cpp; may be repeated")
    add("--llama-python", default=sys.executable, help="a Python that has llama_cpp")
    add("--drafts", default="none,ngram,planes,auto", help="what `run --draft` takes; KIND@N has a fixed length")
    add("--texts", type=Path, help="the folder that fixtures/draft_texts.py wrote; without it, a text that is built in")
    add("--kinds", default=",".join(KINDS), help="of text; default %(default)s; KIND@T is sampled at a temperature")
    add("--tidemill-flags", default="", help="more flags for `tidemill run`")
    add("--ceilings", help="sizes, shares of the model's size in F16, or none; default none,0.65,0.3")
    add("--throttle", default="none", help="of reads: none,0.8GB/s")
    add("--tokens", type=int, default=256)
    add("--peer-tokens", type=int, default=32)
    add(
        "--plain-tokens",
        type=int,
        default=256,
        help="of runs without drafts below a ceiling: their speed is any text's",
    )
    add("--prompt-tokens", type=int, default=128)
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--timeout", type=float, default=3600.0, help="seconds for one run")
    add("--pause", type=float, default=0.0, help="seconds before each run, for drives that throttle")
    add("--scratch", type=Path, help="where logs go; default: the system's")
    add("--label", default=code_revision(), help="names the code that is measured; default: %(default)s")
    add("--out", type=Path, help="JSON rows are added to it, and those that it has are not measured again")
    add("--plot", type=Path, help="an .svg or .png to draw")
    add("--smoke", action="store_true", help="one short round without a ceiling: does it run?")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds, arguments.tokens, arguments.prompt_tokens = 1, 8, 8
    arguments.ceilings = arguments.ceilings or ("none" if arguments.smoke else "none,0.65,0.3")
    if not arguments.drafts.startswith("none"):
        parser.error(f"--drafts {arguments.drafts}: expected none first, which the others are compared with")
    if unknown := sorted({kind.partition("@")[0] for kind in arguments.kinds.split(",")} - set(KINDS)):
        parser.error(f"--kinds {','.join(unknown)}: expected some of {','.join(KINDS)}")
    if arguments.plot is not None and (problem := plot.find_problem()):
        parser.error(f"--plot: {problem}")
    return arguments


def main() -> None:
    arguments = _parse()
    measured = MeasuredRows(arguments.out, DraftRow)
    try:
        model = open_model(arguments.model)
        comparison = Comparison(arguments, model, measured)
        peers = without_problems([LlamaCpp(arguments.llama_python, gguf) for gguf in arguments.gguf])
        comparison.run(peers, read_texts(arguments.texts, arguments.kinds.split(",")))
    except (StorageError, ValueError, OSError) as error:
        raise SystemExit(f"draft_vs_peers: {error}") from None
    summaries = summarise_all(comparison.seen)
    for summary in summaries:
        measured.write(summary)
    note = f"{model.directory.name}{': ' if model.note else ''}{model.note}"
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else TABLE_COLUMNS)
    console.print(as_table(summaries, note))
    console.print(as_anatomy_table(summaries))
    for what in sorted({what for row in comparison.seen for what in row.not_imposed}):
        tell(f"not imposed: {what}")
    if arguments.plot is not None:
        plot_speed(summaries, arguments.plot, note)


if __name__ == "__main__":
    main()
