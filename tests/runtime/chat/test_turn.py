"""Turns: what the engine is asked for. And with a real model whose template knows no tools: the calls it makes."""

import json
import queue
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from runtime.chat.answer import whole_message
from runtime.chat.conversation import Conversation, Tool, ToolChoice, ToolUse
from runtime.chat.messages import Message, Role, ToolCall
from runtime.chat.reasoning import Stage
from runtime.chat.turn import Turn, next_turn
from runtime.engine.engine import Engine
from runtime.engine.native import Library, Model
from runtime.engine.values.events import Event, Finished, TextDelta
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import GenerationParams
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import RequestError
from runtime.nursery import Patience
from tests.fakes import ScriptedEngine

HI = Message(Role.USER, "What's the weather in Paris?")
WEATHER = Tool(
    "get_weather",
    "Tells the weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 40}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
TIME = Tool("get_time", "Tells the time.")
CALLER = (
    "{% for t in tools or [] %}[TOOL]{{ t | tojson }}{% endfor %}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[CALL]{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
THINKER = (
    "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>"
    "{% endif %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{{ BEGIN }}{% endif %}"
)
FORCED = THINKER.replace("{{ BEGIN }}", "<think>\n")
ABLE = THINKER.replace("{{ BEGIN }}", "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}")


def text_of(turn: Turn) -> str:
    """The prompt as text; the scripted engine's tokens are bytes."""
    return ScriptedEngine().vocabulary.detokenize(turn.prompt.tokens)


def test_a_template_that_knows_tools_tells_of_them_and_of_calls_by_itself() -> None:
    engine = ScriptedEngine(chat_template=CALLER)
    called = Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "get_time", "{}"),))
    turn = next_turn(engine, Conversation((HI, called, Message(Role.TOOL, "noon")), ToolUse((WEATHER,))))
    assert text_of(turn).startswith('[TOOL]{"type": "function", "function": {"name": "get_weather"')
    assert text_of(turn).endswith("[assistant][CALL]get_time {}[tool]noon[assistant]")
    assert turn.grammar is not None
    assert turn.grammar.triggers == ("[CALL]",)
    reader = turn.reader()
    (call,) = whole_message(reader.feed('Well. [CALL]get_weather {"city": "Paris"}')).tool_calls
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Paris"}')


def test_tools_join_the_system_message_of_a_template_that_knows_none() -> None:
    system = Message(Role.SYSTEM, "Be brief.")
    turn = next_turn(ScriptedEngine(), Conversation((system, HI), ToolUse((WEATHER, TIME))))
    assert text_of(turn).startswith("<|im_start|>system\nBe brief.\n\n")
    assert '"get_weather"' in text_of(turn)
    assert text_of(turn).count("<|im_start|>system") == 1
    assert '<tool_call>\n{"name": "NAME", "arguments": ARGUMENTS}\n</tool_call>' in text_of(turn)


def test_results_of_calls_that_were_made_together_are_one_message() -> None:
    calls = tuple(ToolCall(str(index), "get_time", "{}") for index in range(2))
    results = (Message(Role.TOOL, "one", tool_call_id="0"), Message(Role.TOOL, "two", tool_call_id="1"))
    turn = next_turn(ScriptedEngine(), Conversation((HI, Message(Role.ASSISTANT, "Ok.", tool_calls=calls), *results)))
    assert text_of(turn).count("<|im_start|>user") == 2
    assert "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>" in text_of(turn)
    assert "assistant\nOk.\n<tool_call>\n" in text_of(turn)


@pytest.mark.parametrize(
    ("source", "thinking", "ending", "stage"),
    [
        (FORCED, None, "[assistant]<think>\n", Stage.BEGUN),
        (FORCED, True, "[assistant]<think>\n", Stage.BEGUN),
        (FORCED, False, "[assistant]<think>\n</think>", Stage.ENDED),
        (ABLE, None, "[assistant]", Stage.POSSIBLE),
        (ABLE, True, "[assistant]", Stage.POSSIBLE),
        (ABLE, False, "[assistant]<think>\n\n</think>\n\n", Stage.POSSIBLE),
    ],
)
def test_thinking_is_as_the_template_and_the_request_want_it(
    source: str, thinking: bool | None, ending: str, stage: Stage
) -> None:
    turn = next_turn(ScriptedEngine(chat_template=source), Conversation((HI,), thinking=thinking))
    assert text_of(turn).endswith(ending)
    assert turn.thinking is not None
    assert turn.thinking.stage is stage


@pytest.mark.parametrize(
    ("begun", "ending", "stage"),
    [
        (Message(Role.ASSISTANT, "Well,"), "[assistant]<think>\n</think>\n\nWell,", None),
        (Message(Role.ASSISTANT, reasoning="Hm"), "[assistant]<think>\nHm", Stage.BEGUN),
        (Message(Role.ASSISTANT, "Well,", "Hm"), "[assistant]<think>\nHm\n</think>\n\nWell,", None),
    ],
    ids=["an answer", "a thought", "both"],
)
def test_a_begun_message_goes_on_where_it_stands(begun: Message, ending: str, stage: Stage | None) -> None:
    engine = ScriptedEngine(chat_template=FORCED)
    turn = next_turn(engine, Conversation((HI, begun), continues_last=True))
    assert text_of(turn).endswith(ending)
    assert (turn.thinking and turn.thinking.stage) == stage


def test_a_grammar_of_the_callers_own_leaves_no_room_for_thinking() -> None:
    grammar = Grammar(GrammarKind.GBNF, 'root ::= "yes"')
    turn = next_turn(ScriptedEngine(chat_template=FORCED), Conversation((HI,)), grammar)
    assert text_of(turn).endswith("<think>\n</think>")
    assert turn.grammar == grammar


class Picky(ScriptedEngine):
    """Its grammars can't take a pattern."""

    def compile(self, grammar: Grammar, patience: Patience | None = None) -> None:
        if "pattern" in grammar.source.replace("whitespace_pattern", ""):
            raise RequestError("the grammar can't be used: it has a pattern")
        super().compile(grammar, patience)


def test_a_schema_that_no_grammar_can_be_made_of_is_loosened_unless_it_is_strict() -> None:
    parameters = {"properties": {"a": {"type": "string", "pattern": "a+"}}, "required": ["a"]}
    tool = Tool("do", parameters=parameters)
    turn = next_turn(Picky(), Conversation((HI,), ToolUse((tool, WEATHER))))
    assert turn.grammar is not None
    assert '"properties": {"a": {"type": "string"}}' in turn.grammar.source
    assert '"enum": ["C", "F"]' in turn.grammar.source
    strict = Tool("do", parameters=parameters, is_strict=True)
    with pytest.raises(RequestError, match="'do' can't be called strictly"):
        next_turn(Picky(), Conversation((HI,), ToolUse((strict,))))


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> Iterator[Engine]:
    model = Model(Library(), smollm2)
    engine = Engine(model, EngineParams(n_ctx=1024, num_threads=None), post=lambda call: call())
    yield engine
    engine.close()
    model.close()


def answer(engine: Engine, use: ToolUse) -> tuple[Message, str]:
    turn = next_turn(engine, Conversation((HI,), use))
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(turn.ask(GenerationParams(sampling=SamplingParams(temperature=0), max_tokens=100)), events.put)
    reader, said, text = turn.reader(), [], ""
    while not isinstance(event := events.get(timeout=60), Finished):
        assert isinstance(event, TextDelta), event
        said += reader.feed(event.text)
        text += event.text
    return whole_message([*said, *reader.finish()]), text


@pytest.mark.parametrize(
    ("choice", "allowed"),
    [(ToolChoice.REQUIRED, None), (ToolChoice.REQUIRED, frozenset({"get_weather"}))],
    ids=["required", "named"],
)
def test_a_small_model_calls_when_it_must(engine: Engine, choice: ToolChoice, allowed: frozenset[str] | None) -> None:
    message, _text = answer(engine, ToolUse((WEATHER, TIME), choice, allowed, is_parallel=False))
    (call,) = message.tool_calls
    assert message.text == ""
    tool = {"get_weather": WEATHER, "get_time": TIME}[call.name]
    jsonschema.validate(json.loads(call.arguments), dict(tool.parameters))
    assert allowed is None or call.name in allowed


def test_a_small_model_that_may_call_answers_as_it_likes(engine: Engine) -> None:
    message, text = answer(engine, ToolUse((WEATHER, TIME)))
    assert message.text == text.rstrip() or message.tool_calls
