"""How often plane 0 alone says what the exact model says: the quality of drafts with planes, apart from their speed.

    python benchmarks/draft_agreement.py -m MODEL [--text prose.txt --text code.txt …] > agreement.jsonl

The whole model lies in memory, and nothing is timed. For each text and temperature a JSON row:
  following   along the text's tokens: the share of positions at which the coarse logits give the token of the exact
              ones, all keys and values before being exact
  passes      along the model's own continuation of the text's first tokens: --length tokens are drafted, then checked;
              tokens of a pass, and at each depth the share that was right of the drafts whose predecessors all were
Above temperature 0 both draw with the same noise, as drafts do. Texts are files of UTF-8; without any, parts of the
standard library: the language reference that pydoc has (prose), argparse (code), a table of html.entities (repetitive).
"""

import argparse
import html.entities
import inspect
import json
import platform
import pydoc_data.topics
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.decoder import Decoder
from tidemill.actors.compute.placement import Placement
from tidemill.actors.compute.sampling import sample, sample_positions
from tidemill.actors.compute.step_events import StepEvent
from tidemill.actors.messages import Sampling
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.options import default_threads
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.arena_plan import align_up, has_planes
from tidemill.storage.manifest_file import load_manifest
from tidemill.storage.shard_reader import load_extents

F32 = npt.NDArray[np.float32]
SEED = 1
PROMPT_TOKENS = 64


@dataclass
class Agreement:
    """Positions by temperature, and those of them where both gave the same token."""

    positions: int = 0
    same: dict[float, int] = field(default_factory=dict)


@dataclass
class Passes:
    """`tried[d]`: drafts at depth d whose predecessors were right; `right[d]`: those of them that were right too."""

    tokens: int = 0
    passes: int = 0
    tried: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class AgreementRow:
    model: str
    text: str
    temperature: float
    following_positions: int
    following_same: float
    pass_length: int
    passes: int
    tokens_per_pass: float
    right_at_depth: list[float]
    python: str = platform.python_version()


def built_in_texts() -> dict[str, str]:
    topics = pydoc_data.topics.topics
    entities = [f'    "{name}": "{value}",' for name, value in sorted(html.entities.name2codepoint.items())]
    return {
        "prose": "\n\n".join(topics[name] for name in ("execmodel", "naming", "import", "objects", "async")),
        "code": inspect.getsource(argparse),
        "repetitive": "codepoints = {\n" + "\n".join(entities) + "\n}\n",
    }


def open_decoder(model: Path, *, context: int, chunk: int, threads: int) -> Decoder:
    """With every extent of a model in planes in memory. Raises StorageError, SystemExit."""
    manifest = load_manifest(model)
    if not has_planes(manifest):
        raise SystemExit(f"{model} has no planes; convert it with --codec planes")
    offsets = np.cumsum([0, *(align_up(extent.bytes) for extent in manifest.extents)])
    arena = np.zeros(int(offsets[-1]), np.uint8)
    load_extents(model, manifest, range(len(manifest.extents)), arena, offsets[:-1].tolist())
    placement = Placement(len(manifest.extents))
    placement.offsets[:] = offsets[:-1]
    return Decoder(manifest, arena, placement, context=context, chunk=chunk, threads=threads, row_slots=1)


def logits_of(step: Generator[StepEvent, object, F32 | None]) -> F32:
    """Of a step that finds everything in memory."""
    while True:
        try:
            next(step)
        except StopIteration as end:
            logits: F32 = end.value
            return logits


def draw_at(temperature: float) -> Sampling:
    return Sampling(temperature=temperature, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=SEED)


def read_prompt(decoder: Decoder, tokens: Sequence[int], chunk: int) -> None:
    """All but the last token, whose step is the first to be drafted."""
    for start in range(0, len(tokens) - 1, chunk):
        logits_of(decoder.step(tokens[start : min(start + chunk, len(tokens) - 1)], start, want_logits="last"))


def follow(decoder: Decoder, tokens: Sequence[int], samplings: Sequence[Sampling], chunk: int) -> Agreement:
    """Along `tokens`, PROMPT_TOKENS of which are read before."""
    found = Agreement(same={sampling.temperature: 0 for sampling in samplings})
    read_prompt(decoder, tokens[:PROMPT_TOKENS], chunk)
    for at in range(PROMPT_TOKENS - 1, len(tokens)):
        coarse = logits_of(decoder.draft_step(tokens[at], at)).copy()
        exact = logits_of(decoder.step(tokens[at : at + 1], at, want_logits="last"))[0]
        found.positions += 1
        for sampling in samplings:
            drafted, checked = (sample(logits, sampling, (), position=at + 1) for logits in (coarse, exact))
            found.same[sampling.temperature] += drafted == checked
    return found


def draft_passes(
    decoder: Decoder, prompt: Sequence[int], count: int, length: int, sampling: Sampling, chunk: int
) -> Passes:
    """Continue `prompt` by `count` tokens or somewhat more, in passes of `length` drafts."""
    found = Passes(tried=[0] * length, right=[0] * length)
    read_prompt(decoder, prompt, chunk)
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        start = len(tokens)
        drafted = list(tokens)
        for at in range(start - 1, start - 1 + length):
            coarse = logits_of(decoder.draft_step(drafted[-1], at))
            drafted.append(sample(coarse, sampling, drafted, position=at + 1))
        exact = logits_of(decoder.step(drafted[start - 1 :], start - 1, want_logits="all"))
        accepted = sample_positions(exact, sampling, tokens, start=start, proposed=drafted[start:])
        for depth in range(min(len(accepted), length)):
            found.tried[depth] += 1
            found.right[depth] += accepted[depth] == drafted[start + depth]
        found.passes += 1
        found.tokens += len(accepted)
        tokens += accepted
    return found


def measure(
    decoder: Decoder, name: str, texts: Mapping[str, Sequence[int]], given: argparse.Namespace
) -> Generator[AgreementRow, None, None]:
    chunk = given.length + 1
    samplings = [draw_at(temperature) for temperature in given.temperatures]
    for text, tokens in texts.items():
        following = follow(decoder, tokens, samplings, chunk)
        for sampling in samplings:
            passes = draft_passes(decoder, tokens[:PROMPT_TOKENS], given.tokens, given.length, sampling, chunk)
            yield AgreementRow(
                model=name,
                text=text,
                temperature=sampling.temperature,
                following_positions=following.positions,
                following_same=following.same[sampling.temperature] / following.positions,
                pass_length=given.length,
                passes=passes.passes,
                tokens_per_pass=passes.tokens / passes.passes,
                right_at_depth=[r / t for r, t in zip(passes.right, passes.tried, strict=True) if t],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--text", type=Path, action="append", help="a file; its name without suffix names the rows")
    parser.add_argument("--tokens", type=int, default=256, help="of each text, and of each continuation")
    parser.add_argument("--length", type=int, default=6, help="drafts of a pass")
    parser.add_argument("--temperatures", type=float, nargs="+", default=(0.0, 0.7, 1.0))
    parser.add_argument("--threads", type=int, default=default_threads())
    given = parser.parse_args()
    model = resolve_model(given.model)
    tokenizer = TextTokenizer.open(model, load_manifest(model).decoder.bos_token_id)
    contents = {file.stem: file.read_text(encoding="utf-8") for file in given.text or ()} or built_in_texts()
    most = PROMPT_TOKENS + given.tokens
    texts = {name: tokenizer.encode(text, add_special_tokens=True)[:most] for name, text in contents.items()}
    decoder = open_decoder(model, context=most + 2 * given.length + 2, chunk=given.length + 1, threads=given.threads)
    for row in measure(decoder, model.name, texts, given):
        print(json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    main()
