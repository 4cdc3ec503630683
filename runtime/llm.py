"""The Python entry point: `with LLM.open("smollm2-135m", ram="600MiB") as llm: print(llm.generate("Once").text)`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tidemill.actors.arena.residency.choose_policy import QuotaKind, ResidencyKind
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.messages import Sampling
from tidemill.actors.predictor.config import PreloadKind
from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.draft_options import parse_draft
from tidemill.runtime.engine import Engine
from tidemill.runtime.events import StatusText
from tidemill.runtime.generation import Generation, Request, TextGenerated
from tidemill.runtime.memory import available_bytes
from tidemill.runtime.options import (
    EngineOptions,
    LauncherName,
    check_options,
    choose_load_mode,
    choose_quotas,
    choose_restarts,
    default_threads,
)
from tidemill.runtime.sizes import parse_size
from tidemill.runtime.text.chat_template import ChatTemplate
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.devices.device import LoadMode
from tidemill.storage.devices.emulated.spec import DRIVE, parse_device
from tidemill.storage.manifest_file import load_manifest

AUTO_SHARE = 0.8  # of the memory available now: what "auto" takes as ceiling
DEFAULT_CONTEXT = 2048
DEFAULT_IO_DEPTH = 4
MAX_TOKENS = 128


class LLM:
    """A model that is open for generation. A context manager: closing ends its processes and frees its memory.

    Not thread-safe; one generation at a time.
    """

    def __init__(self, engine: Engine, tokenizer: TextTokenizer, name: str) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.name = name

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        ram: str | int | None = "auto",
        context: int | None = None,
        threads: int | None = None,
        load_mode: LoadMode | Literal["auto"] = "auto",
        launcher: LauncherName = "local",
        arena: str | int | None = None,
        io_depth: int = DEFAULT_IO_DEPTH,
        device: str = DRIVE,
        verify_reads: bool = True,
        restart: bool | None = None,
        selection: SelectionSpec | None = None,
        residency: ResidencyKind = "lfu",
        quotas: QuotaKind | None = None,
        hot_set: Path | None = None,
        preload: PreloadKind = "none",
        preload_share: float = 0.5,
        traces: bool = False,
        draft: str = "auto",
        draft_length: int | None = None,
        tokenizer: TextTokenizer | None = None,
        on_status: Callable[[StatusText], None] = lambda _: None,
    ) -> "LLM":
        """Open a model by path or name.

        `ram` is the ceiling of the whole process tree ("600MiB", bytes, "auto" for 80 % of what is available, None
        for none);
        `arena` fixes the arena's size instead of taking what the ceiling leaves; `context` is in tokens (2048, or the
        model's). `device` is the drive as it is, or one that is emulated over it ("emulate:ufs-4.0", docs/devices.md);
        without `verify_reads` weights are taken as they come.
        `restart`: when an actor dies, all are started again and the text goes on as it would have (None: where the run
        is exact; tokens of a selection could not be computed again as they were).
        `selection` is lossy: decoded tokens are computed with a part of the weights, which `residency` keeps
        (`hot-set` by the trace `hot_set`; `quotas` fixed or adaptive, None: what suits it) and `preload` reads ahead;
        `traces` has events tell which part that was.
        `draft` proposes tokens that are checked several at a time: "auto", "none", "ngram", "planes" or "model:NAME",
        `draft_length` of them or as many as pay; the text is the same. `tokenizer`: the model's, if it was opened
        before.
        Raises ValueError for bad values, CeilingTooSmallError, StorageError, ActorDiedError.
        """
        directory = resolve_model(model)
        ram_bytes = int(available_bytes() * AUTO_SHARE) if ram == "auto" else _bytes(ram)
        options = EngineOptions(
            model=directory,
            ram_bytes=ram_bytes,
            arena_bytes=_bytes(arena),
            context=DEFAULT_CONTEXT if context is None else context,
            threads=default_threads() if threads is None else threads,
            load_mode=choose_load_mode(load_mode),
            launcher=launcher,
            io_depth=io_depth,
            device=parse_device(device),
            verify_reads=verify_reads,
            restarts=choose_restarts(restart, selection),
            selection=selection,
            residency=residency,
            quotas=choose_quotas(quotas, residency, selection),
            hot_set=hot_set,
            preload=preload,
            preload_share=preload_share,
            traces=traces,
            draft=parse_draft(draft, draft_length),
        )
        options = check_options(options, explicit_context=context is not None)
        # The tokenizer first: it is a large part of what this process weighs when the ceiling is divided.
        tokenizer = tokenizer or TextTokenizer.open(directory, load_manifest(directory).decoder.bos_token_id)
        return cls(Engine.open(options, on_event=on_status), tokenizer, directory.name)

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.engine.close()

    def start(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repeat_penalty: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Generation:
        """A generation that runs as its `events()` are taken. Temperature 0 is greedy. Raises ValueError for bad
        values."""
        sampling = make_sampling(temperature, top_k, top_p, min_p, repeat_penalty, seed)
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}, expected at least 1")
        ids = self.tokenizer.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else list(prompt)
        request = Request(prompt_ids=ids, max_tokens=max_tokens, sampling=sampling, stop=stop)
        return Generation(self.engine, self.tokenizer, request, self.name)

    def generate(self, prompt: str | Sequence[int], **settings: object) -> Generation:
        """Run to the end; takes what `start` takes."""
        generation = self.start(prompt, **settings)  # type: ignore[arg-type]
        for _ in generation.events():
            pass
        return generation

    def stream(self, prompt: str | Sequence[int], **settings: object) -> Iterator[str]:
        """The text piece by piece; closing the iterator stops. Takes what `start` takes."""
        for event in self.start(prompt, **settings).events():  # type: ignore[arg-type]
            if isinstance(event, TextGenerated):
                yield event.text

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation in the model's own template, open for the answer. Raises TemplateError."""
        template = ChatTemplate.open(self.engine.options.model, self.tokenizer.config)
        return self.tokenizer.encode(template.render(messages, add_generation_prompt=True), add_special_tokens=False)

    def chat(self, messages: Sequence[Mapping[str, str]], **settings: object) -> Generation:
        """Answer a conversation of {"role": …, "content": …}; what was computed for its beginning is used again."""
        return self.generate(self.chat_prompt(messages), **settings)


def make_sampling(
    temperature: float, top_k: int, top_p: float, min_p: float, repeat_penalty: float, seed: int
) -> Sampling:
    """Raises ValueError naming the value and its range."""
    checks = [
        ("temperature", temperature, 0.0 <= temperature <= 100.0, "0 (greedy) to 100"),
        ("top_k", top_k, top_k >= 0, "0 (off) or more"),
        ("top_p", top_p, 0.0 < top_p <= 1.0, "more than 0, up to 1 (off)"),
        ("min_p", min_p, 0.0 <= min_p <= 1.0, "0 (off) to 1"),
        ("repeat_penalty", repeat_penalty, repeat_penalty > 0.0, "more than 0 (1 is off)"),
        ("seed", seed, 0 <= seed < 1 << 63, "0 to 2**63 - 1"),
    ]
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"{name} is {value}, accepted: {accepted}")
    return Sampling(temperature, top_k, top_p, min_p, repeat_penalty, seed)


def _bytes(size: str | int | None) -> int | None:
    return parse_size(size) if isinstance(size, str) else size
