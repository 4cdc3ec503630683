from pathlib import Path

import pytest

from tidemill.runtime.text.chat_template import ChatTemplate, TemplateError

MESSAGES = [{"role": "user", "content": "hi <x>"}]


def test_special_tokens_generation_prompt_and_filters_are_there() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{{ m | tojson }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    template = ChatTemplate(source, {"bos_token": "<s>"})
    assert template.render(MESSAGES, add_generation_prompt=True) == '<s>{"role": "user", "content": "hi <x>"}>'


def test_a_template_may_refuse_a_conversation() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(TemplateError, match="roles must alternate"):
        template.render(MESSAGES, add_generation_prompt=False)


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ cycler.__init__.__globals__ }}"]
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    template = ChatTemplate(source, {})
    try:
        assert "class" not in template.render(MESSAGES, add_generation_prompt=False)
    except TemplateError:
        pass  # refused


def test_the_file_goes_before_the_configuration_and_none_is_an_error(tmp_path: Path) -> None:
    config = {"chat_template": [{"name": "default", "template": "from config"}], "eos_token": {"content": "</s>"}}
    assert ChatTemplate.open(tmp_path, config).render([], add_generation_prompt=False) == "from config"
    (tmp_path / "chat_template.jinja").write_text("from file {{ eos_token }}")
    assert ChatTemplate.open(tmp_path, config).render([], add_generation_prompt=False) == "from file </s>"
    with pytest.raises(TemplateError, match="no chat template"):
        ChatTemplate.open(tmp_path / "none", {})
    with pytest.raises(TemplateError, match="cannot be parsed"):
        ChatTemplate("{% if %}", {})
