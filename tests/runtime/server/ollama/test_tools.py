"""Tools and thinking in Ollama's dialect; `test_ollama` has the rest."""

import json
from typing import Any

import pytest

from runtime.server.asking.conversation import ChatDefaults
from tests.fakes import ScriptedEngine
from tests.runtime.server.anthropic.test_tools import CALL, TEMPLATE, THOUGHT, TWO_CALLS, pieces
from tests.serving import ask, make_app

CHAT: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "The weather?"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "time", "description": "", "parameters": {"type": "object"}}}
THINKER = (
    "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    "{{ '' if enable_thinking is undefined else enable_thinking }}|{{ reasoning_effort }}"
)


def thinker(text: str = "Hello") -> ScriptedEngine:
    return ScriptedEngine(pieces(text), chat_template=THINKER)


def asked(engine: ScriptedEngine, path: str = "/api/chat", **fields: Any) -> Any:
    return ask(make_app(engine), "POST", path, json={**CHAT, "prompt": "Hi", **fields})


def whole(engine: ScriptedEngine, path: str = "/api/chat", **fields: Any) -> dict[str, Any]:
    response = asked(engine, path, stream=False, **fields)
    assert response.status_code == 200, response.text
    return dict(response.json())


def streamed(engine: ScriptedEngine, path: str = "/api/chat", **fields: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in asked(engine, path, **fields).text.splitlines()]


def put_together(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a stream's messages add up to."""
    message: dict[str, Any] = {"role": "assistant"}
    for each in messages:
        for name in set(each) - {"role"}:
            message[name] = message[name] + each[name] if name in message else each[name]
    return message


def answered(text: str, **fields: Any) -> dict[str, Any]:
    """Return the message of an answer, the same whole and streamed; of its calls without their ids."""
    messages = [
        whole(ScriptedEngine(pieces(text)), **fields)["message"],
        put_together([each["message"] for each in streamed(ScriptedEngine(pieces(text)), **fields)]),
    ]
    for message in messages:
        for call in message.get("tool_calls", []):
            assert call.pop("id")
    assert messages[0] == messages[1]
    return dict(messages[0])


def prompt_of(engine: ScriptedEngine, **fields: Any) -> str:
    whole(engine, **fields)
    return engine.vocabulary.detokenize(engine.requests[-1].prompt.tokens)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_a_call_has_its_arguments_as_an_object() -> None:
    message = answered(f"Let me see. {CALL}", tools=[WEATHER])
    call = {"function": {"index": 0, "name": "weather", "arguments": {"city": "Köln"}}}
    assert message == {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}


def test_each_of_several_calls_is_told_when_it_is_complete() -> None:
    lines = streamed(ScriptedEngine(pieces(TWO_CALLS)), tools=[WEATHER, TIME])
    calls = [line["message"]["tool_calls"] for line in lines if "tool_calls" in line["message"]]
    assert [[call["function"]["name"] for call in each] for each in calls] == [["weather"], ["time"]]
    assert [call["function"]["index"] for each in calls for call in each] == [0, 1]
    assert (lines[-1]["done"], lines[-1]["done_reason"]) == (True, "stop")
    assert answered(TWO_CALLS, tools=[WEATHER, TIME])["content"] == ""


def test_a_call_that_is_cut_off_is_not_told() -> None:
    answer = whole(ScriptedEngine(pieces(CALL)), tools=[WEATHER], options={"num_predict": 16})
    assert ("tool_calls" in answer["message"], answer["done_reason"]) == (False, "length")


def test_without_tools_a_call_is_only_text() -> None:
    assert answered(CALL) == {"role": "assistant", "content": CALL}


def test_thinking_has_a_field_of_its_own() -> None:
    assert answered(THOUGHT + "Hello") == {"role": "assistant", "content": "Hello", "thinking": "Hm, Köln."}


def test_thinking_that_was_not_wanted_is_not_told() -> None:
    assert answered(THOUGHT + "Hello", think=False) == {"role": "assistant", "content": "Hello"}


def test_generate_tells_of_thinking_too() -> None:
    answer = whole(thinker(THOUGHT + "Hello"), "/api/generate")
    assert (answer["response"], answer["thinking"]) == ("Hello", "Hm, Köln.")
    lines = streamed(thinker(THOUGHT + "Hello"), "/api/generate", think=True)
    assert "".join(line.get("thinking", "") for line in lines) == "Hm, Köln."
    assert "".join(line["response"] for line in lines) == "Hello"


def test_a_raw_prompt_is_answered_with_the_raw_text() -> None:
    assert whole(thinker(THOUGHT + "Hello"), "/api/generate", raw=True)["response"] == THOUGHT + "Hello"


def test_no_tokens_likelihood_is_lost_with_thinking() -> None:
    text = THOUGHT + "Hello"
    lines = streamed(ScriptedEngine(pieces(text)), logprobs=True)
    told = [token["token"] for line in lines for token in line.get("logprobs", [])]
    assert "".join(told) == text


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_the_model_is_told_of_the_tools_and_free_to_call_them() -> None:
    engine = ScriptedEngine()
    assert "Tells the weather." in prompt_of(engine, tools=[WEATHER])
    grammar = engine.requests[0].params.sampling.grammar
    assert grammar is not None
    assert grammar.triggers or grammar.trigger_tokens


@pytest.mark.parametrize(
    ("think", "written"),
    [(True, "True|"), (False, "False|"), ("low", "True|low"), ("high", "True|high")],
)
def test_how_much_to_think_reaches_the_template(think: object, written: str) -> None:
    assert prompt_of(thinker(), think=think).endswith(f"The weather?{written}")


def test_what_the_server_was_told_of_thinking_holds_where_a_request_says_nothing() -> None:
    def prompt(**fields: Any) -> str:
        engine = thinker()
        app = make_app(engine, chat=ChatDefaults(thinking=False, variables={"reasoning_effort": "low"}))
        assert ask(app, "POST", "/api/chat", json={**CHAT, **fields}).status_code == 200
        return engine.vocabulary.detokenize(engine.requests[-1].prompt.tokens)

    assert prompt().endswith("?False|low")
    assert prompt(think="high").endswith("?True|high")


def test_a_model_that_can_not_think_says_so() -> None:
    response = asked(ScriptedEngine(), think=True)
    assert (response.status_code, response.json()) == (400, {"error": "'any' does not support thinking"})
    assert asked(ScriptedEngine(), think=False).status_code == 200
    app = make_app(ScriptedEngine(), chat=ChatDefaults(thinking=True))
    assert ask(app, "POST", "/api/chat", json=CHAT).status_code == 200


def results_of(*results: dict[str, Any], ids: tuple[str, ...] = ()) -> list[str]:
    """Return which call each of some results is told to be of: `a` or `b`, or neither."""
    calls = [{"function": {"name": name, "arguments": {"x": n}}} for n, name in enumerate(("a", "b"))]
    for call, call_id in zip(calls, ids, strict=False):
        call["id"] = call_id  # type: ignore[assignment]
    messages = [*CHAT["messages"], {"role": "assistant", "content": "", "tool_calls": calls}]
    messages += [{"role": "tool", "content": "Rain.", **result} for result in results]
    prompt = prompt_of(ScriptedEngine(chat_template=TEMPLATE), messages=messages)
    _user, assistant, *told = prompt.removeprefix("[").removesuffix("]").split("][")
    a, b = (call.split("=")[0] for call in assistant.split("|")[3].removesuffix(";").split(";"))
    assert a != b
    return [{a: "a", b: "b"}.get(each.split("|")[4], "") for each in told]


def test_results_find_their_calls_by_name_by_order_or_by_id() -> None:
    assert results_of({"tool_name": "b"}, {"tool_name": "a"}) == ["b", "a"]
    assert results_of({}, {}) == ["a", "b"]
    assert results_of({"tool_call_id": "2"}, {"tool_call_id": "1"}, ids=("1", "2")) == ["b", "a"]
    assert results_of({"tool_name": "c"}) == [""]


def test_what_was_thought_and_called_reaches_the_template() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}
    messages = [*CHAT["messages"], {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]}]
    prompt = prompt_of(ScriptedEngine(chat_template=TEMPLATE), messages=messages)
    assert "|Hm.|" in prompt
    assert '=weather{"city": "Köln"};' in prompt


def test_show_tells_of_tools_and_thinking_where_the_template_has_them() -> None:
    def capabilities(engine: ScriptedEngine) -> set[str]:
        shown = ask(make_app(engine), "POST", "/api/show", json={"model": "scripted"}).json()
        return set(shown["capabilities"]) & {"tools", "thinking"}

    caller = (
        "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}[{{ m.role }}]"
        "{% for c in m.tool_calls or [] %}<call>{{ {'name': c.function.name, 'arguments': c.function.arguments}"
        " | tojson }}</call>{% endfor %}{{ m.content }}{% endfor %}"
    )
    assert capabilities(ScriptedEngine()) == set()
    assert capabilities(thinker()) == {"thinking"}
    assert capabilities(ScriptedEngine(chat_template=caller)) == {"tools"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": "x"}, "'tools' must be a list"),
        ({"tools": [{"type": "function"}]}, "'tools[0].function' must be an object"),
        ({"think": "much"}, "'think' must be true, false or one of"),
        ({"think": 1}, "'think' must be true, false or one of"),
        ({"messages": [{"role": "assistant", "tool_calls": 1}]}, "'messages[0].tool_calls' must be a list"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "x"}}]}]},
            "'messages[0].tool_calls[0].function.arguments' must be a JSON object",
        ),
        ({"messages": [{"role": "tool", "tool_name": 1}]}, "'messages[0].tool_name' must be a text"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:40],
)
def test_what_can_not_be_read_is_told_by_its_place(fields: dict[str, Any], words: str) -> None:
    response = asked(ScriptedEngine(), **fields)
    assert response.status_code == 400
    assert words in response.json()["error"]


@pytest.mark.parametrize(("number", "read"), [("1e400", "1e400"), ("9" * 5000, "9" * 5000), ("2.5", 2.5), ("7", 7)])
def test_a_number_that_no_reader_of_json_takes_is_a_text(number: str, read: object) -> None:
    text = CALL.replace('"Köln"', number)
    (call,) = answered(text, tools=[WEATHER])["tool_calls"]
    assert call["function"]["arguments"] == {"city": read}
