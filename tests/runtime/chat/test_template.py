import re

import pytest

from runtime.chat.messages import Message, Role
from runtime.chat.template import load_template, without_bos
from runtime.errors import RequestError

HELLO = (Message(Role.USER, "<b>'Grüße' & \u2028</b>"),)
TALK = (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Hi"), Message(Role.ASSISTANT, "Hello"), *HELLO)


def render(source: str | None, messages: tuple[Message, ...] = HELLO) -> str:
    return load_template(source, "<s>", "</s>").render(messages)


def test_a_model_without_a_template_gets_chatml() -> None:
    assert render(None, TALK[:2]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}|{{ tools is none }}", "<s>|</s>|True|True"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "<b>\'Grüße\' & \u2028</b>"}'),
        ("{{ {'b': [1], 'a': 2} | tojson(indent=1) }}", '{\n "b": [\n  1\n ],\n "a": 2\n}'),
        ("a\n   {% if true %}\nb\n   {% endif %}\nc", "a\nb\nc"),
        ("{% for n in range(9) %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}", "01"),
        ("{% generation %}x{% endgeneration %}y", "xy"),
        ("{{ 'x' * 3 }}{{ 2 ** 3 }}", "xxx8"),
        ("{{ missing }}.", "."),
    ],
)
def test_a_template_renders_as_hugging_face_does(source: str, prompt: str) -> None:
    assert render(source) == prompt


def test_the_time_is_there() -> None:
    assert re.fullmatch(r"\d{4}", render("{{ strftime_now('%Y') }}"))


def test_a_template_that_refuses_the_system_role_gets_it_in_the_first_user_message() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m.role }}:{{ m.content }}]{% endfor %}"
    )
    assert render(source, TALK[:3]) == "[user:Be brief.\n\nHi][assistant:Hello]"


def test_a_refusal_that_is_not_about_the_system_role_is_told_in_one_line() -> None:
    with pytest.raises(RequestError, match="roles must alternate") as refusal:
        render("{{ raise_exception('roles must\nalternate') }}", TALK)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}",
        "{{ 1 / 0 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ 9 ** 999999 }}",
        "{% for n in range(10 ** 9) %}{% endfor %}",
        "{% set x = 'y' * 60000000 %}{{ x }}{{ x }}",
    ],
)
def test_a_broken_or_hostile_template_is_refused(source: str) -> None:
    with pytest.raises(RequestError, match="chat template"):
        render(source)


@pytest.mark.parametrize(
    ("prompt", "adds_bos", "left"),
    [("<s>hi", True, "hi"), ("<s>hi", False, "<s>hi"), ("hi", True, "hi")],
)
def test_bos_is_left_to_a_tokenizer_that_adds_it(prompt: str, adds_bos: bool, left: str) -> None:
    assert without_bos(prompt, "<s>", adds_bos=adds_bos) == left


def test_a_template_that_loops_over_the_tools_without_a_look_gets_none() -> None:
    source = (
        "{% for tool in tools %}{{ tool }}{% endfor %}{% if tools is none %}none{% endif %}{{ messages[0].content }}"
    )
    assert render(source, (Message(Role.USER, "Hi"),)) == "Hi"
    assert render("{{ tools is none }}", (Message(Role.USER, "Hi"),)) == "True"


def test_older_templates_get_the_date_and_the_functions_by_their_own_names() -> None:
    source = "{{ functions }} {{ date_string }} {{ datetime }}"
    rendered = render(source, (Message(Role.USER, "Hi"),))
    assert rendered.startswith("[] ")
    assert re.search(r" \d\d \w{3} \d{4} ", rendered)
