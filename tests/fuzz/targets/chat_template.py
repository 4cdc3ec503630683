"""Jinja, as a model may bring it."""

from tests.runtime.text.templates import EVERYDAY, GREEDY
from tidemill.runtime.text import bounded_jinja
from tidemill.runtime.text.chat_template import ChatTemplate, TemplateError

STEPS_MAX = 20_000
PRODUCED_BYTES_MAX = 1 << 20


def seeds() -> list[bytes]:
    return [source.encode() for source in (*EVERYDAY, *GREEDY)]


def check(data: bytes) -> None:
    bounded_jinja.STEPS_MAX, bounded_jinja.PRODUCED_BYTES_MAX = STEPS_MAX, PRODUCED_BYTES_MAX
    messages = [{"role": "user", "content": "hello\nthere"}, {"role": "assistant", "content": "yes"}]
    given = [dict(message) for message in messages]
    try:
        text = ChatTemplate(data.decode(errors="replace"), {"bos_token": "<s>"}).render(
            given, add_generation_prompt=True
        )
        assert len(text) <= PRODUCED_BYTES_MAX
    except TemplateError as error:
        assert str(error)
    assert given == messages
