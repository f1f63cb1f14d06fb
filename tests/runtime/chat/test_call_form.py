"""Forms of calls learnt from templates of each kind."""

import pytest

from runtime.chat.call_form import CallForm, Placeholder, TaggedArguments, learn_call_form
from runtime.chat.template import MessageFormat, load_template

_HEAD = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|{{ m.role }}|>"
_TAIL = "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


def template(calls: str, content: str = "{{ m.content or '' }}", head: str = _HEAD) -> str:
    """A template whose messages have a content, and where there are any, calls."""
    return f"{head}{content}{{% if m.tool_calls %}}{calls}{{% endif %}}{_TAIL}"


EACH = "{% for c in m.tool_calls %}"
LEARNT = {
    "an object in tags": (
        template(
            EACH
            + '{% if not loop.first or m.content %}{{ "\n" }}{% endif %}<tool_call>\n{"name": "{{ c.function.name }}", '
            '"arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
        ),
        CallForm(
            opening=('<tool_call>\n{"name": "',),
            middle=('", "arguments": ',),
            between=('}\n</tool_call>\n<tool_call>\n{"name": "',),
            closing=("}\n</tool_call>",),
        ),
        MessageFormat(),
    ),
    "a list with ids": (
        template(
            "[TOOL_CALLS][" + EACH + '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments }}, '
            '"id": "{{ c.id }}"}{% if not loop.last %}, {% endif %}{% endfor %}]'
        ),
        CallForm(
            opening=('[TOOL_CALLS][{"name": "',),
            middle=('", "arguments": ',),
            between=(', "id": "', Placeholder.ID, '"}, {"name": "'),
            closing=(', "id": "', Placeholder.ID, '"}]'),
        ),
        MessageFormat(arguments_are_text=True),
    ),
    "numbered": (
        template(
            "<|calls|>" + EACH + "<|call|>functions.{{ c.function.name }}:{{ loop.index0 }}<|arguments|>"
            "{{ c.function.arguments | tojson }}<|done|>{% endfor %}<|called|>"
        ),
        CallForm(
            opening=("<|calls|><|call|>functions.",),
            middle=(":", Placeholder.NUMBER, "<|arguments|>"),
            between=("<|done|><|call|>functions.",),
            closing=("<|done|><|called|>",),
        ),
        MessageFormat(),
    ),
    "arguments one by one": (
        template(
            EACH + "<call>\n<function={{ c.function.name }}>\n{% for k, v in c.function.arguments.items() %}"
            "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</call>{% endfor %}"
        ),
        CallForm(
            opening=("<call>\n<function=",),
            middle=(">\n",),
            between=("</function>\n</call><call>\n<function=",),
            closing=("</function>\n</call>",),
            arguments=TaggedArguments("<parameter=", ">\n", "\n</parameter>\n"),
        ),
        MessageFormat(),
    ),
    "an object without a mark, and one only": (
        template(
            "{% if m.tool_calls | length != 1 %}{{ raise_exception('one call only') }}{% endif %}"
            '{"name": "{{ m.tool_calls[0].function.name }}", '
            '"parameters": {{ m.tool_calls[0].function.arguments | tojson }}}'
        ),
        CallForm(opening=('{"name": "',), middle=('", "parameters": ',), between=None, closing=("}",)),
        MessageFormat(),
    ),
    "no content is null": (
        template(
            EACH + "<do>{{ c.function.name }} {{ c.function.arguments }}</do>{% endfor %}",
            "{% if m.content is none %}{% elif m.tool_calls %}{{ raise_exception('calls have no content') }}"
            "{% else %}{{ m.content }}{% endif %}",
        ),
        CallForm(opening=("<do>",), middle=(" ",), between=("</do><do>",), closing=("</do>",)),
        MessageFormat(arguments_are_text=True, no_text_is_null=True),
    ),
}


@pytest.mark.parametrize(("source", "form", "message_format"), LEARNT.values(), ids=LEARNT.keys())
def test_the_form_is_learnt_from_what_the_template_writes(
    source: str, form: CallForm, message_format: MessageFormat
) -> None:
    learnt = learn_call_form(load_template(source, "<s>", "</s>"))
    assert learnt is not None
    assert learnt.form == form
    assert learnt.message_format == message_format
    assert learnt.describes_tools


UNKNOWN = {
    "no calls": template(""),
    "a call like in Python": template(
        EACH + "{{ c.function.name }}({% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %})"
        "{% endfor %}"
    ),
    "the name after the arguments": template(
        EACH + "<do>{{ c.function.arguments | tojson }} {{ c.function.name }}</do>{% endfor %}"
    ),
    "calls refused": template("{{ raise_exception('no calls') }}"),
}


@pytest.mark.parametrize("source", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_cannot_be_understood_counts_as_no_form(source: str) -> None:
    assert learn_call_form(load_template(source, "<s>", "</s>")) is None


def test_a_template_may_know_calls_but_tell_of_no_tools() -> None:
    source = LEARNT["an object in tags"][0].replace(_HEAD, "{% for m in messages %}<|{{ m.role }}|>")
    learnt = learn_call_form(load_template(source, "<s>", "</s>"))
    assert learnt is not None
    assert not learnt.describes_tools
