"""From the engine's tokens to text: detokenised, stop strings cut, figures collected. One generation, used by all
faces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from tidemill import __version__
from tidemill.actors.messages import Sampling
from tidemill.runtime.engine import Engine
from tidemill.runtime.events import GenerationEvent, TokenGenerated
from tidemill.runtime.summary import Outcome, Summary, summarise
from tidemill.runtime.text.stops import StopMatcher
from tidemill.runtime.text.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class TextGenerated:
    """A piece of the answer, ready to be shown."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`stop` strings end the text and are not part of it."""

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling
    stop: Sequence[str]


class Generation:
    """Iterate it once for events and text; `summary` holds for what was generated so far. Closing the iterator
    cancels."""

    def __init__(self, engine: Engine, tokenizer: TextTokenizer, request: Request, model: str) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._request = request
        self._model = model
        self._tokens: list[TokenGenerated] = []
        self._pieces: list[str] = []
        self._finish_reason = "cancelled"
        self._ttft_ns: int | None = None

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def token_ids(self) -> list[int]:
        return [token.token_id for token in self._tokens]

    @property
    def finish_reason(self) -> str:
        """stop (a stop id or string), length (max_tokens), context (it is full) or cancelled."""
        return self._finish_reason

    @property
    def tokens(self) -> Sequence[TokenGenerated]:
        return self._tokens

    def events(self) -> Iterator[GenerationEvent | TextGenerated]:
        request = self._request
        stop_ids = self._engine.manifest.decoder.eos_token_ids
        stream, matcher = self._tokenizer.stream(request.prompt_ids), StopMatcher(request.stop)
        begun_ns = perf_counter_ns()
        steps = self._engine.generate(
            request.prompt_ids, max_tokens=request.max_tokens, sampling=request.sampling, stop_ids=stop_ids
        )
        for event in steps:
            if not isinstance(event, TokenGenerated):
                yield event
                continue
            self._ttft_ns = self._ttft_ns or perf_counter_ns() - begun_ns
            self._tokens.append(event)
            yield event
            yield from self._show(matcher.feed(stream.add(event.token_id)))
            if matcher.stopped or event.token_id in stop_ids:
                self._finish_reason = "stop"
                break
        else:
            full = len(request.prompt_ids) + len(self._tokens) > self._engine.context
            self._finish_reason = "context" if full and len(self._tokens) < request.max_tokens else "length"
        yield from self._show(matcher.finish())

    def _show(self, text: str) -> Iterator[TextGenerated]:
        if text:
            self._pieces.append(text)
            yield TextGenerated(text)

    def summary(self) -> Summary:
        outcome = Outcome(
            model=self._model,
            text=self.text,
            finish_reason=self._finish_reason,
            prompt_tokens=len(self._request.prompt_ids),
            ttft_ns=self._ttft_ns,
            version=__version__,
        )
        return summarise(outcome, self._tokens, self._engine.report())
