"""What a policy that leaves nothing out costs beside an exact run of the same conversion: the price of choosing.

    python benchmarks/zero_sparsity.py topk=MODEL-topk gate=MODEL-gate neuron=MODEL-neuron

Models are resident. Each round runs both variants of every model once, a process each, the order turned around from
round to round; the overhead is that of a round's pair. Prints a JSON row per model. The texts have to be the same.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from benchmarks.decode import PROMPT, measure
from tidemill.runtime.catalog import resolve_model


@dataclass(frozen=True)
class Overhead:
    """Ratios are of a round's pair, minus 1: the median over rounds, the least and the most."""

    policy: str
    model: str
    exact_s_per_token: float
    selecting_s_per_token: float
    overhead: float
    least: float
    most: float
    rounds: int
    tokens: int


def summarise(policy: str, model: str, pairs: list[tuple[float, float]], tokens: int) -> Overhead:
    """`pairs`: seconds per token, exact and selecting, of each round."""
    ratios = [selecting / exact - 1 for exact, selecting in pairs]
    return Overhead(
        policy=policy,
        model=model,
        exact_s_per_token=median(exact for exact, _ in pairs),
        selecting_s_per_token=median(selecting for _, selecting in pairs),
        overhead=median(ratios),
        least=min(ratios),
        most=max(ratios),
        rounds=len(pairs),
        tokens=tokens,
    )


def measure_pair(model: Path, policy: str, arguments: argparse.Namespace, *, exact_first: bool) -> tuple[float, float]:
    """Seconds per token, exact and selecting. Ends the program where the texts differ: then one of them is wrong."""
    base = [sys.executable, "-m", "tidemill.runtime.cli.main", "run", "-m", str(model), "-p", PROMPT, "--json"]
    base += ["-n", str(arguments.tokens), "-t", str(arguments.threads), "--ram", "none", "-c", "512", "--draft", "none"]
    commands = [base, [*base, "--select", policy, "--sparsity", "0"]]
    order = (0, 1) if exact_first else (1, 0)
    found = {i: measure(commands[i]) for i in order}
    if found[0]["text"] != found[1]["text"]:
        raise SystemExit(f"{model}: {policy} at sparsity 0 gives another text than the exact run")
    exact, selecting = (found[i]["decode_s_per_token"] for i in (0, 1))
    assert exact is not None
    assert selecting is not None
    return exact, selecting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="POLICY=MODEL", help="calibrated, in the layout of the policy")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    models = {policy: resolve_model(model) for policy, _, model in (given.partition("=") for given in arguments.models)}
    pairs: dict[str, list[tuple[float, float]]] = {policy: [] for policy in models}
    for number in range(arguments.rounds):
        for policy, model in models.items():
            sys.stderr.write(f"round {number + 1} of {arguments.rounds}: {policy}\n")
            pairs[policy].append(measure_pair(model, policy, arguments, exact_first=number % 2 == 0))
    for policy, model in models.items():
        print(json.dumps(asdict(summarise(policy, model.name, pairs[policy], arguments.tokens))))


if __name__ == "__main__":
    main()
