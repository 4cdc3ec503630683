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


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"chat_template": [{"name": ["default"], "template": "x"}]}, "no chat template"),
        ({"chat_template": [{"name": "default", "template": 7}]}, "no chat template"),
        ({"chat_template": {"default": "x"}}, "no chat template"),
    ],
)
def test_a_configuration_of_odd_types_has_no_template(tmp_path: Path, config: dict[str, object], says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        ChatTemplate.open(tmp_path, config)


def test_a_template_file_that_is_no_text_of_this_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model" / "chat_template.jinja"
    path.parent.mkdir()
    (tmp_path / "outside").write_text("secret")
    path.symlink_to("../outside")
    with pytest.raises(TemplateError, match="leads out"):
        ChatTemplate.open(path.parent, {})
    path.unlink()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TemplateError, match=r"chat_template\.jinja cannot be read: .*utf-8"):
        ChatTemplate.open(path.parent, {})


@pytest.mark.parametrize(
    "source", ["{{ 1 / 0 }}", "{{ messages[0].content.index('q') }}", "{{ 'x'|int(99) }}{{ {}.x.y }}"]
)
def test_whatever_a_template_does_wrong_is_the_template_s_error(source: str) -> None:
    with pytest.raises(TemplateError, match="refuses this conversation"):
        ChatTemplate(source, {}).render(MESSAGES, add_generation_prompt=False)
