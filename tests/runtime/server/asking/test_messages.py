from typing import Any

import pytest

from runtime.chat.messages import Message, Role
from runtime.errors import RequestError
from runtime.server.asking.messages import parse_messages


def test_text_parts_become_one_text_of_as_many_lines() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert parse_messages([{"role": "user", "content": parts}]) == (Message(Role.USER, "one\ntwo"),)


def test_a_developer_is_the_system() -> None:
    assert parse_messages([{"role": "developer", "content": "x"}])[0].role is Role.SYSTEM


def called(arguments: str) -> dict[str, Any]:
    return {"id": "1", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("hello", "messages"),
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "wizard", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages[0].content[0].image_url.url",
        ),
        ([{"role": "user", "content": [{"type": "file"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "messages[0].tool_calls[0]"),
        *(
            ([{"role": "assistant", "tool_calls": [called(text)]}], "messages[0].tool_calls[0].function.arguments")
            for text in (
                '{"a":' * 400 + '"\\n"' + "}" * 400,
                '{"a": "\\ud800"}',
                '{"a": NaN}',
                '{"a": 1e400}',
                f'{{"a": {"9" * 4301}}}',
                "[]",
                "{",
            )
        ),
    ],
    ids=lambda value: str(value)[:70],
)
def test_a_bad_message_is_refused_with_its_place(messages: object, param: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_messages(messages)
    assert refusal.value.param == param
    assert f"'{param.removesuffix('.type')}'" in str(refusal.value)
