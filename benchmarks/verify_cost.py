"""What verifying every read costs: the digest alone, and decoding with and without it.

    python benchmarks/verify_cost.py MODEL=400MiB OTHER=600MiB,topk,0.5 --device emulate:ufs-4.0

Each argument is a model, its ceiling (none: resident, where only the first token reads) and, for one whose bundles come
one by one, a selection and its sparsity. First a row of the digest: bytes per second of xxh3 as extents have it (1 MiB,
from Python) on one thread. Then each round runs every model twice, a process each, with and without --verify-reads, the
order turned around from round to round; the cost is that of a round's pair, and texts have to be the same. Rows say how
much of it reading the digests' rate explains: bytes per token over that rate, on the core that has it to do.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.decode import PROMPT, measure
from tidemill.runtime.catalog import resolve_model
from tidemill.storage.checksums import digest_int

EXTENT_BYTES = 1 << 20
HASHED_BYTES = 256 << 20  # more than caches hold


class Case(NamedTuple):
    model: Path
    ram: str
    selection: tuple[str, str] | None  # policy, sparsity

    @property
    def flags(self) -> list[str]:
        chosen = ["--select", self.selection[0], "--sparsity", self.selection[1]] if self.selection else []
        return ["-m", str(self.model), "--ram", self.ram, *chosen]


class Pair(NamedTuple):
    """Seconds per token of one round."""

    verified_s: float
    taken_s: float  # as it comes
    bytes_per_token: float


@dataclass(frozen=True)
class Digest:
    """`cached`: of one extent again and again."""

    bytes_per_s: float
    cached_bytes_per_s: float
    machine_cores: int


@dataclass(frozen=True)
class Cost:
    """Ratios are of a round's pair, minus 1: the median over rounds, the least and the most. `digest_s_per_token`: what
    hashing a token's reads takes of one core."""

    model: str
    ram: str
    selection: str | None
    device: str
    verified_s_per_token: float
    unverified_s_per_token: float
    cost: float
    least: float
    most: float
    bytes_per_token: float
    digest_s_per_token: float
    rounds: int
    tokens: int


def parse_case(text: str) -> Case:
    model, _, rest = text.partition("=")
    ram, *selection = (rest or "none").split(",")
    if len(selection) not in (0, 2):
        raise SystemExit(f"{text}: a case is MODEL=CEILING or MODEL=CEILING,POLICY,SPARSITY")
    return Case(resolve_model(model), ram, (selection[0], selection[1]) if selection else None)


def measure_digest() -> Digest:
    data = np.random.default_rng(0).integers(0, 256, HASHED_BYTES, np.uint8).data
    extents = [data[at : at + EXTENT_BYTES] for at in range(0, HASHED_BYTES, EXTENT_BYTES)]
    rates = []
    for chosen in (extents, extents[:1] * len(extents)):
        begun = time.perf_counter()
        for extent in chosen:
            digest_int(extent)
        rates.append(HASHED_BYTES / (time.perf_counter() - begun))
    return Digest(rates[0], rates[1], os.cpu_count() or 1)


def summarise(case: Case, device: str, pairs: list[Pair], hashed: Digest, tokens: int) -> Cost:
    ratios = [pair.verified_s / pair.taken_s - 1 for pair in pairs]
    read = median(pair.bytes_per_token for pair in pairs)
    return Cost(
        model=case.model.name,
        ram=case.ram,
        selection=None if case.selection is None else " ".join(case.selection),
        device=device,
        verified_s_per_token=median(pair.verified_s for pair in pairs),
        unverified_s_per_token=median(pair.taken_s for pair in pairs),
        cost=median(ratios),
        least=min(ratios),
        most=max(ratios),
        bytes_per_token=read,
        digest_s_per_token=read / hashed.bytes_per_s,
        rounds=len(pairs),
        tokens=tokens,
    )


def measure_pair(case: Case, arguments: argparse.Namespace, *, verified_first: bool) -> Pair:
    """Ends the program where the texts differ: then one of them is wrong."""
    base = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", *case.flags, "-p", PROMPT, "--json"]
    base += ["-n", str(arguments.tokens), "-t", str(arguments.threads), "-c", "512", "--draft", "none"]
    base += ["--device", arguments.device]
    flags = ("--verify-reads", "--no-verify-reads")
    order = flags if verified_first else flags[::-1]
    found = {flag: measure([*base, flag]) for flag in order}
    verified, taken = (found[flag] for flag in flags)
    if verified["text"] != taken["text"]:
        raise SystemExit(f"{case.model}: another text without verification than with it")
    seconds = [run["decode_s_per_token"] for run in (verified, taken)]
    assert seconds[0] is not None
    assert seconds[1] is not None
    return Pair(seconds[0], seconds[1], verified["bytes_read_per_token"] or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="MODEL=CEILING[,POLICY,SPARSITY]")
    parser.add_argument("--device", default="drive", help="as `tidemill run --device`")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    cases = [parse_case(text) for text in arguments.cases]
    hashed = measure_digest()
    print(json.dumps(asdict(hashed)), flush=True)
    pairs: list[list[Pair]] = [[] for _ in cases]
    for number in range(arguments.rounds):
        for case, measured in zip(cases, pairs, strict=True):
            sys.stderr.write(f"round {number + 1} of {arguments.rounds}: {case.model.name} at {case.ram}\n")
            measured.append(measure_pair(case, arguments, verified_first=number % 2 == 0))
    for case, measured in zip(cases, pairs, strict=True):
        print(json.dumps(asdict(summarise(case, arguments.device, measured, hashed, arguments.tokens))))


if __name__ == "__main__":
    main()
