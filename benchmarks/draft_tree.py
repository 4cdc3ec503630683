"""Would a token tree pay instead of a chain of drafts, or a chain that ends early? Worked out of recorded drafts.

    python benchmarks/draft_tree.py chains.jsonl … [--lap 0.057] [--checks 1:0.092,16:0.36 …] [--streams 0,0.45,0.92]

A pass takes its draft laps and then what computing the check takes, or what streaming does if that is more. Passes
follow one another along each text of draft_chains.py, so that each begins where the one before ended. JSON rows: for
each text, how many drafts of a chain are right, how often the true token of the first wrong one's place was the second,
third and fourth choice, and how many of the next four would have been right behind it. Then for each streaming time and
way of drafting its speed over that of
  chain        the best fixed length, of each text in hindsight
  leaves       that, and choices beside it that cost no lap
  probability  as long as plane 0's probability of its draft is above a threshold; `probabilities`: their product
  gap, gaps    likewise by the gap between its two best logits, as a chance of being right
  promise      likewise, as long as a further draft promises more than the time it takes is worth, without a threshold;
               `promise+leaves` with leaves by the same measure
  branches     that, and leaves that are drafted on; `branches+`: if a draft lap could compute a position beside another
               for --beside of its time
  ngram, ngram+forks   the best length of drafts by looking back, and with what followed other matches beside it
with the parameters that are best for the other kinds of text (`others`), and with each text's own in hindsight (`best`:
with some hundreds to choose from, that is no forecast). `tokens_per_s` goes with `best`.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.draft_chains import Chains
from benchmarks.draft_shapes import (
    STOPS,
    Passes,
    Places,
    chain_passes,
    draft_while,
    fit_scale,
    ngram_passes,
    read_places,
    right_behind,
    stop_below,
    tree_passes,
)

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
# Measured, seconds: SmolLM2-135M widened four times, in memory, two threads.
LAP = 0.057
CHECKS = "1:.092,2:.096,3:.107,4:.118,5:.143,6:.160,7:.19,8:.195,9:.24,12:.28,16:.36"
STREAMS = (0.0, 0.45, 0.92)  # of a lap, seconds: all in memory, 65 % of F16's size with a free drive, with 0.8 GB/s
BEHIND = 4  # drafts behind a wrong one
OFFSETS = 8  # places from which passes begin
SCALES = tuple(float(scale) for scale in np.geomspace(0.02, 2, 60))
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ROUNDS = 4  # until a speed leads to itself
LEAVES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 1.0)
FURTHER = (1, 2, 3, 4)
FORKS, FORKED = (1, 2, 3), (0, 1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """In seconds."""

    lap: float
    branch_lap: float
    checks: Mapping[int, float]  # by positions
    stream: float
    exposed: float = 0.0  # share of what could be computed while streaming that isn't

    def waits(self, positions: I64) -> F64:
        """Of checks."""
        computing = np.interp(positions, list(self.checks), list(self.checks.values()))
        return np.maximum(computing, self.stream) + self.exposed * np.minimum(computing, self.stream)

    def of(self, passes: Passes) -> F64:
        """[N]"""
        drafting = passes.laps * self.lap + passes.branch_laps * self.branch_lap
        seconds: F64 = drafting + self.waits(passes.positions)
        return seconds


def speed(passes: Passes, costs: Costs) -> float:
    """Tokens a second along the text."""
    tokens, seconds = passes.tokens.tolist(), costs.of(passes).tolist()
    brought, took = 0, 0.0
    for offset in range(min(OFFSETS, len(tokens))):
        place = offset
        while place < len(tokens):
            took += seconds[place]
            place += tokens[place]
        brought += place - offset
    return brought / took


Passing = Sequence[Passes]  # a way of drafting with certain parameters: passes of each text


def fixed(texts: Sequence[Places], most: int) -> Iterator[Passing]:
    for length in range(most + 1):
        yield [chain_passes(text, np.full(len(text.ranks), length)) for text in texts]


def stopped(texts: Sequence[Places], most: int, stop: str) -> Iterator[Passing]:
    sure = [STOPS[stop](text) for text in texts]
    for threshold, longest in itertools.product((0.0, *THRESHOLDS), range(1, most + 1)):
        lengths = [stop_below(each, threshold, longest) for each in sure]
        yield [chain_passes(text, length) for text, length in zip(texts, lengths, strict=True)]


def with_leaves(texts: Sequence[Places], most: int) -> Iterator[Passing]:
    for length, leaf in itertools.product(range(1, most + 1), LEAVES):
        yield [tree_passes(text, np.full(len(text.ranks), length), leaf=leaf) for text in texts]


def looked_back(texts: Sequence[Chains], most: int) -> Iterator[Passing]:
    for length in range(1, most + 1):
        yield [ngram_passes(text, length) for text in texts]


def looked_back_twice(texts: Sequence[Chains], most: int) -> Iterator[Passing]:
    for length, forks, further in itertools.product(range(1, most + 1), FORKS, FORKED):
        if length + forks * (further + 1) <= most:
            yield [ngram_passes(text, length, forks=forks, further=further) for text in texts]


class TreeRow(msgspec.Struct, frozen=True):
    stream_s: float
    way: str
    tokens_per_s: dict[str, float]
    others: dict[str, float]
    best: dict[str, float]
    mean_others: float
    mean_best: float


class MissRow(msgspec.Struct, frozen=True):
    text: str
    right: float
    choices: tuple[float, ...]
    behind: float


def describe(name: str, places: Places) -> MissRow:
    """Of chains from every place, each with equal weight."""
    missed = places.right < places.most
    _, has, choice = places.missed
    choices = tuple(round(float((has & (choice == c))[missed].mean()), 3) for c in range(places.gaps.shape[2]))
    behind = round(float(right_behind(places, BEHIND)[missed].mean()), 3)
    return MissRow(name, round(float(places.right.mean()), 2), choices, behind)


def speeds(way: Sequence[Passing], costs: Costs) -> F64:
    """[parameters, texts]"""
    return np.array([[speed(passes, costs) for passes in passing] for passing in way])


def by_others(ratios: F64, kinds: Sequence[str]) -> F64:
    """[parameters, texts] → [texts], each with the parameters that are best in the mean of the other kinds."""
    logs, found = np.log(ratios), []
    for text, kind in enumerate(kinds):
        others = [other != kind for other in kinds]
        chosen = np.argmax(logs[:, others].mean(axis=1)) if any(others) else np.argmax(logs.mean(axis=1))
        found.append(ratios[chosen, text])
    return np.array(found)


def compare(way: str, found: F64, base: F64, names: Sequence[str], stream: float) -> TreeRow:
    """`found` [parameters, texts] with `base` [texts]. Names are kind@temperature/seed; means are geometric."""
    ratios = found / base
    others, best = by_others(ratios, [name.split("@")[0] for name in names]), ratios.max(axis=0)

    def told(figures: F64) -> dict[str, float]:
        return {name: round(float(figure), 3) for name, figure in zip(names, figures, strict=True)}

    means = [round(float(np.exp(np.log(each).mean())), 3) for each in (others, best)]
    return TreeRow(stream, way, told(found.max(axis=0)), told(others), told(best), *means)


def promised(text: Places, costs: Costs, rate: float, *, leaves: bool, further: int = 0) -> Passes:
    """Without thresholds: a draft, leaf or branch has to promise as many tokens as the speed so far, `rate` at first,
    brings in the time that it takes. A leaf's is taken for the mean of a position's. Branches are leaves that are
    drafted `further` tokens on."""
    waits = costs.waits(np.arange(1, text.most + 2))
    for _ in range(ROUNDS):
        lengths = draft_while(text, rate * (costs.lap + np.diff(waits)))
        leaf = rate * (waits[-1] - waits[0]) / text.most if leaves else 1.0
        branch = rate * costs.branch_lap if further else 1.0
        passes = tree_passes(text, lengths, leaf=leaf, branch=branch, further=further)
        rate = speed(passes, costs)
    return passes


def promising(
    texts: Sequence[Places], costs: Costs, rates: Sequence[float], beside: float
) -> Iterator[tuple[str, F64]]:
    """Ways and their speeds, with branches whose laps take their time or `beside` of it."""
    ways = {"promise": (False, (0,), 1.0), "promise+leaves": (True, (0,), 1.0)}
    ways |= {"branches": (True, FURTHER, 1.0), "branches+": (True, FURTHER, beside)}
    for way, (leaves, furthers, share) in ways.items():
        cost = replace(costs, branch_lap=share * costs.lap)
        drawn = [
            [
                promised(text, cost, rate, leaves=leaves, further=further)
                for text, rate in zip(texts, rates, strict=True)
            ]
            for further in furthers
        ]
        yield way, speeds(drawn, cost)


def work_out(recorded: Sequence[Chains], given: argparse.Namespace) -> Iterator[TreeRow | MissRow]:
    names = [f"{chains.text}@{chains.temperature:g}/{chains.seed}" for chains in recorded]
    scale = fit_scale([read_places(chains, 1.0) for chains in recorded], SCALES)
    print(f"a draft is right with chance 1 / (1 + exp(-gap / {scale:.3f}))", file=sys.stderr)
    texts = [read_places(chains, scale) for chains in recorded]
    yield from (describe(name, text) for name, text in zip(names, texts, strict=True))
    most = min(text.most for text in texts)
    costs = [
        Costs(lap=given.lap, branch_lap=given.lap, checks=given.checks, stream=stream, exposed=given.exposed)
        for stream in given.streams
    ]
    chain = list(fixed(texts, most))
    chained = [speeds(chain, each) for each in costs]
    ways = {"chain": chain, "leaves": list(with_leaves(texts, most))}
    ways |= {stop: list(stopped(texts, most, stop)) for stop in STOPS}
    for each, found in zip(costs, chained, strict=True):
        base = found.max(axis=0)
        fixedly = ((way, speeds(passing, each)) for way, passing in ways.items())
        for way, got in itertools.chain(fixedly, promising(texts, each, base.tolist(), given.beside)):
            yield compare(way, got, base, names, each.stream)
    ngram, forked = list(looked_back(recorded, most)), list(looked_back_twice(recorded, most))
    for each in costs:
        found = speeds(ngram, each)
        yield compare("ngram", found, found.max(axis=0), names, each.stream)
        yield compare("ngram+forks", speeds(forked, each), found.max(axis=0), names, each.stream)


def parse_checks(value: str) -> dict[int, float]:
    """`1:0.09,16:0.36`: seconds by positions, ascending."""
    pairs = (pair.split(":") for pair in value.split(","))
    return {int(positions): float(seconds) for positions, seconds in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path, nargs="+", help="what draft_chains.py printed")
    parser.add_argument("--lap", type=float, default=LAP, help="seconds of a draft lap")
    parser.add_argument("--beside", type=float, default=0.15, help="of a lap, for a second position in it")
    parser.add_argument("--checks", type=parse_checks, default=parse_checks(CHECKS), metavar="POSITIONS:SECONDS,…")
    parser.add_argument("--streams", type=float, nargs="+", default=STREAMS, help="seconds that a check streams for")
    parser.add_argument("--exposed", type=float, default=0.0, help="share of computing that streaming does not hide")
    given = parser.parse_args()
    lines = [line for file in given.chains for line in file.read_bytes().splitlines()]
    for row in work_out([msgspec.json.decode(line, type=Chains) for line in lines], given):
        print(msgspec.json.encode(row).decode(), flush=True)


if __name__ == "__main__":
    main()
