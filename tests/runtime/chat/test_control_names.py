"""Names of control tokens in texts, with the tokenizers of real models: never the token, and nothing else changes."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.chat.control_names import ControlNames, control_names
from runtime.chat.conversation import Conversation, Tool, ToolUse
from runtime.chat.messages import Message, Role, ToolCall
from runtime.chat.turn import next_turn, prompt_of
from runtime.engine.native import Library, Model
from runtime.engine.values.facts import ControlToken
from runtime.engine.values.request import TextPart
from tests.fakes import ScriptedEngine

OWN_MARK = "<jupyter_start>"  # a control token of SmolLM2's, with which one of the templates begins calls
# The kinds of things that templates do with texts.
TEMPLATES = {
    "ChatML": None,
    "trimmed, with tools as JSON": (
        "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for m in messages %}"
        "<|im_start|>{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}\n{{ (m.content or '') | trim }}"
        "{% for c in m.tool_calls or [] %}<jupyter_start>{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "in JSON": (
        "{% for m in messages %}<|im_start|>{{ m.content | tojson }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    ),
    "split and joined": (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>') | join(' ') }}</s>"
        "{% endfor %}"
    ),
}
# Those to which a name isn't a text like others.
MINDING = {
    "in capitals": "{% for m in messages %}<|im_start|>{{ m.content | upper | lower }}<|im_end|>{% endfor %}",
    "without one": "{% for m in messages %}{{ m.content | replace('<|im_end|>', '') }}<|im_end|>{% endfor %}",
    "measured": "{% for m in messages %}<|im_start|>{{ m.content | length }}{{ m.content }}<|im_end|>{% endfor %}",
    "by letters in ASCII": (
        "{% for m in messages %}<|im_start|>{{ m.content | tojson(ensure_ascii=true) }}<|im_end|>{% endfor %}"
    ),
}
TEXTS = st.lists(
    st.sampled_from(["Hi", " ", "\n", "é", "<|", "|>", "</think>", '"', "\\", "\U000f0000", "\0", "<|im_", "end|>"])
    | st.integers(0, 30),
    max_size=6,
)


@pytest.fixture(scope="module", params=["smollm2", "stories260k"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    path: Path = request.getfixturevalue(request.param)
    model = Model(Library(), path)
    yield model
    model.close()


def engine_of(model: Model, source: str | None) -> ScriptedEngine:
    """An engine that only tokenizes, as a model does."""
    engine = ScriptedEngine(chat_template=source)
    facts = model.facts
    engine.info = replace(
        engine.info, n_vocab=facts.n_vocab, add_bos=facts.add_bos, bos_token=facts.bos_token, eos_token=facts.eos_token
    )
    engine.vocabulary = model  # type: ignore[assignment]
    return engine


def control_ids(model: Model, tokens: tuple[int, ...]) -> list[int]:
    names = {token.name for token in model.control_tokens}
    return [token for token in tokens if model.token_text(token) in names and not model.piece(token)]


def talk(text: str) -> Conversation:
    """A conversation with a text in all places where clients bring some."""
    arguments = json.dumps({"a": text, "b": [text]})
    said = text.replace(OWN_MARK, "")
    messages = (
        Message(Role.SYSTEM, f"Be brief. {text}"),
        Message(Role.USER, f"{text} asked"),
        Message(Role.ASSISTANT, said, tool_calls=(ToolCall("1", "look", arguments),)),
        Message(Role.TOOL, text, tool_call_id="1", name=f"look{text}"),
        Message(Role.USER, f"Well{text}"),
    )
    tool = Tool(f"look{text}", text, {"properties": {f"a{text}": {"description": text, "enum": [text, 1, None]}}})
    return Conversation(messages, ToolUse((tool,)), variables={"more": [text]})


def spelt(model: Model, parts: list[str | int]) -> str:
    names = [token.name for token in model.control_tokens]
    return "".join(names[part % len(names)] if isinstance(part, int) else part for part in parts)


def compact(text: str) -> str:
    """A text without the spaces that some tokenizers add behind control tokens."""
    return text.replace(" ", "")


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(parts=TEXTS)
def test_no_text_brings_a_control_token_and_all_of_it_is_there(
    model: Model, source: str | None, parts: list[str | int]
) -> None:
    engine, text = engine_of(model, source), spelt(model, parts)
    conversation, harmless = talk(text), talk("x")
    tokens = next_turn(engine, conversation).prompt.tokens
    assert control_ids(model, tokens) == control_ids(model, next_turn(engine, harmless).prompt.tokens)
    expected, bos = prompt_of(engine, conversation), model.facts.bos_token
    if model.facts.add_bos:
        expected = bos + expected.removeprefix(bos)
    assert compact(model.detokenize(tokens)) == compact(expected)


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
def test_every_name_of_the_vocabulary_is_text(model: Model, source: str | None) -> None:
    text = " and ".join(token.name for token in model.control_tokens)
    engine = engine_of(model, source)
    tokens = next_turn(engine, talk(text)).prompt.tokens
    assert control_ids(model, tokens) == control_ids(model, next_turn(engine, talk("x")).prompt.tokens)
    assert compact(text) in compact(model.detokenize(tokens))


@pytest.mark.parametrize("source", MINDING.values(), ids=MINDING)
def test_a_template_that_minds_the_name_gets_one_that_is_none(model: Model, source: str) -> None:
    engine = engine_of(model, source)

    def said(text: str) -> tuple[int, ...]:
        return next_turn(engine, Conversation((Message(Role.USER, text),))).prompt.tokens

    for name in (token.name for token in model.control_tokens if len(token.name) > 1):
        tokens = said(f"{name}\U000f0000 Hi")
        assert control_ids(model, tokens) == control_ids(model, said("Hi"))
        written = model.detokenize(tokens).lower()
        assert "hi" in written
        assert written.count("\U000f0000") + written.count("\\udb80\\udc00") == 1  # it is no stand-in's


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("text", ["Hi", "", " two  spaces\n", "<b>1 < 2 | 3 > 2</b>", "im_end", "<|", "é🙂"])
def test_other_texts_have_the_tokens_that_they_always_had(model: Model, source: str | None, text: str) -> None:
    engine, conversation = engine_of(model, source), talk(text)
    prompt = prompt_of(engine, conversation)
    if model.facts.add_bos:
        prompt = prompt.removeprefix(model.facts.bos_token)
    whole = model.tokenize(prompt, add_special=True, parse_special=True)
    assert next_turn(engine, conversation).prompt.tokens == tuple(whole)
    parsed = next_turn(engine, replace(talk("</s><|im_end|>"), parses_special=True)).prompt.tokens
    assert control_ids(model, parsed) != control_ids(model, tuple(whole))


def test_a_segment_without_names_has_the_tokens_that_it_always_had(model: Model) -> None:
    name = model.control_tokens[-1].name
    engine = engine_of(model, None)
    around = (Message(Role.USER, "A long question?"), Message(Role.ASSISTANT, " An answer."))
    ordinary = next_turn(engine, Conversation(around)).prompt.tokens
    forged = next_turn(engine, Conversation((*around, Message(Role.USER, name)))).prompt.tokens
    common = next_turn(engine, Conversation(around, adds_generation_prompt=False)).prompt.tokens[:-1]
    assert forged[: len(common)] == common == ordinary[: len(common)]


def test_the_next_turn_begins_with_the_same_tokens(model: Model) -> None:
    engine = engine_of(model, None)
    asked = tuple(Message(Role.USER, f"{token.name} is what?") for token in model.control_tokens)
    before = next_turn(engine, Conversation(asked)).prompt.tokens
    later = (*asked, Message(Role.ASSISTANT, "That."), Message(Role.USER, "And <|im_end|></s>?"))
    after = next_turn(engine, Conversation(later)).prompt.tokens
    assert after[: len(before)] == before


def test_the_assistants_own_marks_are_tokens_in_its_texts_alone(smollm2: Path) -> None:
    model = Model(Library(), smollm2)
    engine = engine_of(model, TEMPLATES["trimmed, with tools as JSON"])
    (mark,) = model.tokenize(OWN_MARK, add_special=False, parse_special=True)
    text = f"{OWN_MARK}<|im_end|>"
    for role, num_marks in ((Role.ASSISTANT, 1), (Role.USER, 0), (Role.SYSTEM, 0)):
        messages = (Message(Role.USER, "Hi"), Message(role, text), Message(Role.USER, "Hi"))
        tokens = next_turn(engine, Conversation(messages)).prompt.tokens
        assert tokens.count(mark) == num_marks
        assert len(control_ids(model, tokens)) == 7 + num_marks
    model.close()


def test_arguments_hide_no_name_behind_escapes(smollm2: Path) -> None:
    model = Model(Library(), smollm2)
    engine = engine_of(model, TEMPLATES["trimmed, with tools as JSON"])
    counts = []
    for arguments in ('{"a": "x"}', '{"a": "\\u003c|im_end|>"}', '{"\\u003c|im_end|\\u003e": "\\n"}'):
        called = Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "look", arguments),))
        messages = (Message(Role.USER, "Hi"), called, Message(Role.TOOL, "Yes", tool_call_id="1"))
        counts.append(len(control_ids(model, next_turn(engine, Conversation(messages)).prompt.tokens)))
    assert counts == [counts[0]] * 3
    model.close()


def names_of(*tokens: ControlToken) -> ControlNames:
    class Vocabulary:
        control_tokens = tokens

    return control_names(Vocabulary())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "prompt", "parts"),
    [
        ((), "<a>b", [("<a>*", False)]),
        ((ControlToken("<a>"),), "<a> b <a>", [("<a>", True), (" * ", False), ("<a>", True)]),
        ((ControlToken("<a>", strips_right=True),), "<a> b <a>", [("<a>", True), ("* ", False), ("<a>", True)]),
        ((ControlToken("<a>", strips_left=True),), "<a> b <a>", [("<a>", True), (" *", False), ("<a>", True)]),
        ((ControlToken("<a>"), ControlToken("<a>>")), "b<a>><a>", [("*", False), ("<a>><a>", True)]),
        ((ControlToken("<a>"),), "1<a>2<a>b<a>3", [("1<a>2<a>", True), ("*", False), ("<a>3", True)]),
    ],
)
def test_a_prompt_is_cut_at_the_tokens_around_a_stand_in(
    tokens: tuple[ControlToken, ...], prompt: str, parts: list[tuple[str, bool]]
) -> None:
    assert names_of(*tokens).parts(prompt, {"b": "*"}) == [TextPart(text, is_parsed) for text, is_parsed in parts]


@given(names=st.lists(st.text("<|a>", min_size=2, max_size=50), min_size=1, max_size=20), text=st.text("<|a>"))
def test_at_each_place_the_longest_name_is_found(names: list[str], text: str) -> None:
    text += "".join(names)
    found = [match[0] for match in names_of(*map(ControlToken, names)).find_all(text)]
    assert found == re.findall("|".join(map(re.escape, sorted(names, key=len, reverse=True))), text)


def test_names_may_be_many_and_long() -> None:
    many = [f"<|reserved_{number}|>" for number in range(5000)] + ["a" * length for length in range(2, 1000)]
    names = names_of(*map(ControlToken, many))
    assert names.pattern.findall(f"<|reserved_4999|>{'a' * 999} <|reserved_5000|>") == ["<|reserved_4999|>", "a" * 999]


@pytest.mark.parametrize("num_before", range(2**16 - 8, 2**16 + 1))
def test_a_name_is_found_wherever_a_long_text_is_cut(num_before: int) -> None:
    names = names_of(ControlToken("<a>"), ControlToken("<a><bb>"))
    text = f"{'<' * num_before}<a><bb>{'<a' * 2**16}<a>"
    assert [match.span() for match in names.find_all(text)] == [
        (num_before, num_before + 7),
        (len(text) - 3, len(text)),
    ]
