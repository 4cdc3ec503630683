"""Templates that ask for all of the memory or time there is, or for the program itself."""

import time
import tracemalloc

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.text.templates import EVERYDAY, GREEDY
from tidemill.runtime.text import bounded_jinja
from tidemill.runtime.text.bounded_jinja import BoundedEnvironment, TemplateLimitError
from tidemill.runtime.text.chat_template import ChatTemplate, TemplateError

MESSAGES = [{"role": "user", "content": "hello\nthere"}, {"role": "assistant", "content": "yes"}]
ALLOCATED_MAX = 8 << 20


@pytest.fixture(autouse=True)
def low_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_jinja, "PRODUCED_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(bounded_jinja, "STEPS_MAX", 20_000)


def render(source: str) -> str:
    environment = BoundedEnvironment()
    template = environment.parse_template(source)
    with environment.bounded():
        return template.render(messages=MESSAGES)


@pytest.mark.parametrize(("source", "expected"), EVERYDAY.items())
def test_what_templates_do_every_day_is_as_in_plain_jinja(source: str, expected: str) -> None:
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    assert render(source) == plain.from_string(source).render(messages=MESSAGES)
    assert render(source).replace(" ", "") == expected.replace(" ", "")


@pytest.mark.parametrize("source", GREEDY)
def test_what_asks_for_too_much_is_refused_at_once(source: str) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(TemplateError, match="chat template"):
            ChatTemplate(source, {}).render(MESSAGES, add_generation_prompt=False)
        assert tracemalloc.get_traced_memory()[1] < ALLOCATED_MAX
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5.0


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ (''|attr('__class__')).mro() }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ self._TemplateReference__context }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{% for m in messages %}{% set _ = m.pop('role') %}{% endfor %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ tojson.__code__ }}",
        "{{ range.__self__.settrace }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends '/etc/passwd' %}",
        "{{ self.__init__.__globals__ }}",
        "{{ loop.__class__ }}{{ environment.filters }}",
        "{{ open('/etc/passwd') }}",
    ],
)
def test_nothing_of_the_program_or_the_machine_is_reached(source: str) -> None:
    given = [dict(message) for message in MESSAGES]
    try:
        text = ChatTemplate(source, {}).render(given, add_generation_prompt=False)
    except TemplateError:
        text = ""  # refused
    assert text.strip() == ""
    assert given == MESSAGES


def test_a_trace_function_of_a_debugger_is_put_back() -> None:
    import sys

    before = sys.gettrace()
    environment = BoundedEnvironment()
    with pytest.raises(TemplateLimitError, match="20000 steps"), environment.bounded():
        while True:
            _short = bounded_jinja._short(1)
    assert sys.gettrace() is before


WORDS = """
{{ }} {% %} {# #} {%- -%} for in if else elif endif endfor set macro endmacro call endcall filter endfilter endset raw
endraw break continue messages m loop.index [0] ['content'] .content .items() .split('a') ( ) [ ] { } , : | ~ + - * ** /
// % == != < and or not is defined none true 1 0 99 'x' "y" trim upper join tojson replace length list ns.x x
map(attribute='role') namespace(x=1) range(3)
"""
PARTS = st.sampled_from(WORDS.split())
SOURCES = st.one_of(st.text(max_size=60), st.lists(PARTS, max_size=25).map(" ".join))


@settings(max_examples=40, deadline=None)
@given(source=SOURCES, content=st.text(max_size=20), prompt=st.booleans())
def test_any_source_gives_a_text_or_the_template_s_error(source: str, content: str, prompt: bool) -> None:
    messages = [{"role": "user", "content": content}]
    try:
        text = ChatTemplate(source, {"bos_token": "<s>"}).render(messages, add_generation_prompt=prompt)
    except TemplateError as error:
        assert len(str(error)) < 2000
    else:
        assert len(text) < 1 << 20
    assert messages == [{"role": "user", "content": content}]
