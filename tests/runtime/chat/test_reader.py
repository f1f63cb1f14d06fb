"""Every answer is read whole, and again in every way to cut it in two and byte by byte: the message is the same."""

import pytest

from runtime.chat.answer import whole_message
from runtime.chat.call_form import GENERIC, CallForm, Placeholder, TaggedArguments
from runtime.chat.calls import CallReader
from runtime.chat.conversation import Tool
from runtime.chat.messages import Message
from runtime.chat.reader import AnswerReader
from runtime.chat.reasoning import Stage, ThinkingMarks, ThinkingState

WEATHER = Tool("weather", parameters={"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}})
WEATHER_LATER = Tool("weather_later")
TOOLS = (WEATHER, WEATHER_LATER)
THINK = ThinkingState(ThinkingMarks())
BEGUN = ThinkingState(ThinkingMarks(), Stage.BEGUN)
ENDED = ThinkingState(ThinkingMarks(), Stage.ENDED)
MISTRAL = CallForm(
    opening=('[CALLS][{"name": "',),
    middle=('", "arguments": ',),
    between=(', "id": "', Placeholder.ID, '"}, {"name": "'),
    closing=(', "id": "', Placeholder.ID, '"}]'),
)
NUMBERED = CallForm(
    opening=("<calls>functions.",),
    middle=(":", Placeholder.NUMBER, "<args>"),
    between=("</call>functions.",),
    closing=(),
)
TAGGED = CallForm(
    opening=("<call>",),
    middle=("\n",),
    between=("</call>\n<call>",),
    closing=("</call>",),
    arguments=TaggedArguments("<key>", "</key><value>", "</value>\n"),
)
UNMARKED = CallForm(opening=('{"name": "',), middle=('", "parameters": ',), between=None, closing=("}",))
TO_CHANNEL = CallForm(("to=",), ("<|channel|>json<|message|>",), None, ())


def read(pieces: list[str], thinking: ThinkingState | None, form: CallForm | None) -> Message:
    reader = AnswerReader(thinking, CallReader(form, TOOLS) if form else None)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return whole_message([*events, *reader.finish()])


def parts(message: Message) -> tuple[str, str, list[tuple[str, str]]]:
    return message.text, message.reasoning, [(call.name, call.arguments) for call in message.tool_calls]


def in_every_way(text: str, thought: ThinkingState | None, form: CallForm | None) -> tuple:
    whole = parts(read([text], thought, form))
    assert parts(read(list(text), thought, form)) == whole
    for cut in range(len(text) + 1):
        assert parts(read([text[:cut], text[cut:]], thought, form)) == whole
    return whole


@pytest.mark.parametrize(
    ("text", "thought", "expected"),
    [
        ("Hello", THINK, ("Hello", "")),
        (" Hello \n", THINK, (" Hello \n", "")),
        ("<think>\nHm.\n</think>\n\nHello \n", THINK, ("Hello \n", "Hm.")),
        ("\n<think>Hm, <b> it is.", THINK, ("", "Hm, <b> it is.")),
        ("Hm.\n</think>\nHello", BEGUN, ("Hello", "Hm.")),
        ("</think>Hello <think>", BEGUN, ("Hello <think>", "")),
        ("Hm. </thin", BEGUN, ("", "Hm. </thin")),
        ("<thinking about it", THINK, ("<thinking about it", "")),
        ("<thi", THINK, ("<thi", "")),
        (" ", THINK, (" ", "")),
        ("\n\nHello ", ENDED, ("Hello ", "")),
    ],
)
def test_thinking_is_told_from_the_answer(text: str, thought: ThinkingState, expected: tuple[str, str]) -> None:
    assert in_every_way(text, thought, None) == (*expected, [])


def test_without_marks_everything_is_the_answer() -> None:
    assert in_every_way("<think>a</think> b", None, None) == ("<think>a</think> b", "", [])


@pytest.mark.parametrize(
    ("form", "text", "calls"),
    [
        (
            GENERIC,
            '<tool_call>\n{"name": "weather", "arguments": {"city": "a}\\"\\\\", "days": [{}]}}\n</tool_call>',
            [("weather", '{"city": "a}\\"\\\\", "days": [{}]}')],
        ),
        (
            GENERIC,
            (
                '<tool_call>\n{"name": "weather_later", "arguments": {}}\n</tool_call>\n'
                '<tool_call>\n{"name": "weather", "arguments": {"days": 1}}\n</tool_call>'
            ),
            [("weather_later", "{}"), ("weather", '{"days": 1}')],
        ),
        (
            MISTRAL,
            (
                '[CALLS][{"name": "weather", "arguments": {}, "id": "abcdef123"}, '
                '{"name": "weather", "arguments": {"days": 2}, "id": "abcdef124"}]'
            ),
            [("weather", "{}"), ("weather", '{"days": 2}')],
        ),
        (
            NUMBERED,
            '<calls>functions.weather:0<args>{"days": 2}</call>functions.weather_later:1<args>{}',
            [("weather", '{"days": 2}'), ("weather_later", "{}")],
        ),
        (
            TAGGED,
            (
                '<call>weather\n<key>city</key><value>a "b"\nc<</value>\n<key>days</key><value>3</value>\n</call>\n'
                "<call>weather_later\n</call>"
            ),
            [("weather", '{"city": "a \\"b\\"\\nc<", "days": 3}'), ("weather_later", "{}")],
        ),
        (UNMARKED, '{"name": "weather", "parameters": {"days": 5}}', [("weather", '{"days": 5}')]),
    ],
    ids=["generic", "two", "with ids", "numbered", "tagged", "unmarked"],
)
def test_calls_are_read_in_the_models_own_form(form: CallForm, text: str, calls: list[tuple[str, str]]) -> None:
    assert in_every_way(text, THINK, form) == ("", "", calls)
    assert in_every_way(f"<think>Shall I?</think>\nYes: <\n{text}", THINK, form) == ("Yes: <", "Shall I?", calls)


def test_a_call_in_the_thinking_is_none() -> None:
    text = "<think>I could <tool_call>\n</think>\n\nNo."
    assert in_every_way(text, THINK, GENERIC) == ("No.", "I could <tool_call>", [])


def test_what_only_looks_like_a_call_is_text() -> None:
    assert in_every_way("a <tool_cal", THINK, GENERIC) == ("a <tool_cal", "", [])
    assert in_every_way('{"name": "Bob"}\n', THINK, UNMARKED) == ('{"name": "Bob"}\n', "", [])


@pytest.mark.parametrize(
    ("form", "text", "calls"),
    [
        (GENERIC, '<tool_call>\n{"name": "wea', []),
        (GENERIC, '<tool_call>\n{"name": "weather", "arguments": {"ci', [("weather", '{"ci')]),
        (TAGGED, "<call>weather\n<key>city</key><value>a<", [("weather", '{"city": "a')]),
        (TAGGED, "<call>weather\n<key>days</key><value>1</value>\n", [("weather", '{"days": 1}')]),
    ],
    ids=["in the head", "in the arguments", "in a value", "before the end"],
)
def test_a_call_that_is_cut_off_has_what_there_is_of_it(form: CallForm, text: str, calls: list[object]) -> None:
    assert in_every_way(text, None, form) == ("", "", calls)


CHANNELS = ThinkingMarks(
    "<|channel|>analysis<|message|>", "<|end|><|start|>assistant", True, "<|channel|>final<|message|>"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello <b>",
            ("Hello <b>", "Hm."),
        ),
        ("<|channel|>final<|message|>Hello", ("Hello", "")),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|chan", ("<|chan", "Hm.")),
        ("Hello", ("Hello", "")),
    ],
)
def test_the_answers_own_mark_is_no_part_of_it(text: str, expected: tuple[str, str]) -> None:
    assert in_every_way(text, ThinkingState(CHANNELS), None) == (*expected, [])


@pytest.mark.parametrize("head", ["", "<|channel|>commentary "])
@pytest.mark.parametrize("thought", ["", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"])
def test_a_call_may_stand_where_the_answers_own_mark_would(head: str, thought: str) -> None:
    text = f'{thought}{head}to=weather<|channel|>json<|message|>{{"days": 1}}'
    message = in_every_way(text, ThinkingState(CHANNELS), TO_CHANNEL)
    assert message == ("", "Hm." if thought else "", [("weather", '{"days": 1}')])


def test_an_answer_in_a_channel_of_its_own_is_text_with_tools_as_well() -> None:
    text = "<|channel|>final<|message|>Hello to=nobody"
    assert in_every_way(text, ThinkingState(CHANNELS), TO_CHANNEL) == ("Hello to=nobody", "", [])
    unheard = "<|channel|>" + "x" * 120
    assert in_every_way(unheard, ThinkingState(CHANNELS), TO_CHANNEL) == (unheard, "", [])
