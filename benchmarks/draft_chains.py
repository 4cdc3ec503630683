"""Records what plane 0 drafts at every place of the model's own text, for draft_tree.py to work out what pays.

    python benchmarks/draft_chains.py -m MODEL [--text prose.txt …] > chains.jsonl

The model continues each text's first tokens exactly, greedily or with noise. Behind each of --tokens places it then
drafts --most tokens by plane 0 as a pass does, each behind the one before. Where the first of them is wrong, drafting
is done once more from the right token on: so it is known what a branch that begins with it would have brought. A JSON
row for each text, temperature and seed (`Chains`). The whole model lies in memory, and nothing is timed.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.draft_agreement import built_in_texts, logits_of, open_decoder, read_prompt
from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.gumbel_noise import gumbel_noise
from tidemill.actors.compute.sampling import sample
from tidemill.actors.messages import Sampling
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.options import default_threads
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.manifest_file import load_manifest

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
CHOICES = 4  # tokens that a draft lap is asked for: its draft and the next three
DIGITS = 4  # of recorded figures


class Chain(msgspec.Struct, frozen=True):
    """Drafts behind one place, depth by depth [most]."""

    ranks: list[int]  # how many tokens the coarse model liked better than the true one, all before being true
    sure: list[float]  # its probability of what it drafted, behind its own drafts
    gaps: list[list[float]]  # in logits, how far its second, third and fourth choice lay behind, noise included


class Chains(msgspec.Struct, frozen=True):
    """Of one text: the chain at index i is drafted behind tokens[:start + i]."""

    model: str
    text: str
    temperature: float
    seed: int
    start: int
    tokens: list[int]
    chains: list[Chain]


def draw_with(temperature: float, seed: int) -> Sampling:
    return Sampling(temperature=temperature, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=seed)


def continue_text(decoder: Decoder, prompt: Sequence[int], count: int, sampling: Sampling, chunk: int) -> list[int]:
    """The prompt and `count` tokens; the keys and values of all but the last are in the cache then."""
    read_prompt(decoder, prompt, chunk)
    tokens = list(prompt)
    for at in range(len(prompt) - 1, len(prompt) - 1 + count):
        logits = logits_of(decoder.step(tokens[at:], at, want_logits="last"))
        tokens.append(sample(logits[-1], sampling, (), position=at + 1))
    return tokens


def score(logits: F32, sampling: Sampling, position: int) -> F64:
    """What sampling takes the highest of, in logits."""
    if sampling.temperature == 0.0:
        return logits.astype(np.float64)
    return logits + sampling.temperature * gumbel_noise(sampling.seed, position, np.arange(len(logits)))


def probability(logits: F32, token: int, temperature: float) -> float:
    """Of a greedy draft: as at temperature 1."""
    weights = np.exp((logits - logits.max()) / (temperature or 1.0), dtype=np.float64)
    return float(weights[token] / weights.sum())


def draw_chain(decoder: Decoder, tokens: Sequence[int], start: int, most: int, sampling: Sampling) -> Chain:
    """`most` drafts behind tokens[:start]. The cache is as before but for position start - 1 and those behind it."""
    ranks: list[int] = []
    sure, gaps, last = [], [], tokens[start - 1]
    for at in range(start, start + most):
        logits = logits_of(decoder.draft_step(last, at - 1))
        scores = score(logits, sampling, at)
        if not any(ranks):
            ranks.append(int((scores > scores[tokens[at]]).sum()))
        last = int(np.argmax(scores))
        best = -np.sort(-np.partition(scores, -CHOICES)[-CHOICES:])
        sure.append(round(probability(logits, last, sampling.temperature), DIGITS))
        gaps.append([round(float(best[0] - other), DIGITS) for other in best[1:]])
    for at in range(start + len(ranks), start + most):  # behind the right token, where a draft was wrong
        scores = score(logits_of(decoder.draft_step(tokens[at - 1], at - 1)), sampling, at)
        ranks.append(int((scores > scores[tokens[at]]).sum()))
    return Chain(ranks, sure, gaps)


def draw_chains(decoder: Decoder, tokens: Sequence[int], start: int, most: int, sampling: Sampling) -> Iterator[Chain]:
    """Behind each place from `start` on that has `most` tokens."""
    for place in range(start, len(tokens) - most + 1):
        yield draw_chain(decoder, tokens, place, most, sampling)
        logits_of(decoder.step(tokens[place - 1 : place], place - 1, want_logits="none"))


def record(
    decoder: Decoder, name: str, prompts: Mapping[str, Sequence[int]], given: argparse.Namespace
) -> Iterator[Chains]:
    draws = [(t, seed) for t in given.temperatures for seed in given.seeds[: None if t else 1]]
    for temperature, seed in draws:
        sampling = draw_with(temperature, seed)
        for text, prompt in prompts.items():
            count = given.tokens + given.most - 1
            tokens = continue_text(decoder, prompt, count, sampling, given.most + 1)
            chains = list(draw_chains(decoder, tokens, len(prompt), given.most, sampling))
            yield Chains(name, text, temperature, seed, len(prompt), tokens, chains)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--text", type=Path, action="append", help="a file; its name without suffix names the rows")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=256, help="places of each continuation")
    parser.add_argument("--most", type=int, default=15, help="drafts of a chain")
    parser.add_argument("--temperatures", type=float, nargs="+", default=(0.0, 0.7))
    parser.add_argument("--seeds", type=int, nargs="+", default=(1,), help="each gives texts, above temperature 0")
    parser.add_argument("--threads", type=int, default=default_threads())
    given = parser.parse_args()
    model = resolve_model(given.model)
    tokenizer = TextTokenizer.open(model, load_manifest(model).decoder.bos_token_id)
    contents = {file.stem: file.read_text(encoding="utf-8") for file in given.text or ()} or built_in_texts()
    most = given.prompt_tokens
    prompts = {name: tokenizer.encode(text, add_special_tokens=True)[:most] for name, text in contents.items()}
    context = most + given.tokens + 2 * given.most
    decoder = open_decoder(model, context=context, chunk=given.most + 1, threads=given.threads)
    for row in record(decoder, model.name, prompts, given):
        print(msgspec.json.encode(row).decode(), flush=True)
        print(f"{row.text} at temperature {row.temperature:g}: {len(row.chains)} chains", file=sys.stderr)


if __name__ == "__main__":
    main()
