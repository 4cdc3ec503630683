"""Renders conversations with the model's own jinja template, in a sandbox with bounds, with what templates of the Hub
expect."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import jinja2

from tidemill.runtime.text.bounded_jinja import SOURCE_CHARS_MAX, BoundedEnvironment
from tidemill.storage.errors import FormatError
from tidemill.storage.model_files import read_model_file

TEMPLATE_FILE = "chat_template.jinja"
Message = Mapping[str, str]  # role, content


class TemplateError(ValueError):
    """The model has no chat template, or it refuses the conversation."""


class ChatTemplate:
    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        environment = self._environment = BoundedEnvironment()
        environment.add_filter("tojson", _to_json)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._tokens = tokens
        try:
            self._template = environment.parse_template(source)
        except Exception as error:  # noqa: BLE001  # of what anybody may have written, all kinds
            raise TemplateError(f"the model's chat template cannot be parsed: {error}") from None

    @classmethod
    def open(cls, directory: Path, config: Mapping[str, object]) -> "ChatTemplate":
        """From `chat_template.jinja`, else from the tokenizer's configuration. Raises TemplateError."""
        try:
            data = read_model_file(directory, TEMPLATE_FILE, bytes_max=4 * SOURCE_CHARS_MAX)
            source = _configured(config.get("chat_template")) if data is None else data.decode()
        except (FormatError, UnicodeDecodeError) as error:
            raise TemplateError(f"{directory / TEMPLATE_FILE} cannot be read: {error}") from None
        if source is None:
            raise TemplateError(
                "this model has no chat template: it is a base model; use `tidemill run` for completion"
            )
        return cls(source, _special_tokens(config))

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        try:
            with self._environment.bounded():
                return self._template.render(
                    messages=[dict(message) for message in messages],
                    add_generation_prompt=add_generation_prompt,
                    tools=None,
                    documents=None,
                    **self._tokens,
                )
        except Exception as error:  # noqa: BLE001  # the template's own errors are of all kinds
            raise TemplateError(f"the model's chat template refuses this conversation: {error}") from None


def _configured(template: object) -> str | None:
    if isinstance(template, str):
        return template
    if isinstance(template, list):  # named templates
        named = (e.get("template") for e in template if isinstance(e, dict) and e.get("name") == "default")
        return next((source for source in named if isinstance(source, str)), None)
    return None


def _special_tokens(config: Mapping[str, object]) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
