import json
from typing import Any

import pytest

from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import EngineError, QueueFull
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app
from tests.vendor_specs import hold_to_schema

BODY: dict[str, Any] = {"model": "any", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
USER, ASSISTANT = "<|im_start|>user\n{}<|im_end|>\n", "<|im_start|>assistant\n"


def asked(engine: ScriptedEngine, path: str = "/v1/messages", **fields: Any) -> Any:
    return ask(make_app(engine), "POST", path, json={**BODY, **fields})


def whole(engine: ScriptedEngine, **fields: Any) -> dict[str, Any]:
    response = asked(engine, **fields)
    assert response.status_code == 200, response.text
    message = response.json()
    hold_to_schema(message, "Message", protocol="anthropic")
    return dict(message)


def streamed(engine: ScriptedEngine, **fields: Any) -> list[dict[str, Any]]:
    """Return the events, after checking them, their names and their order."""
    response = asked(engine, stream=True, **fields)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for frame in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] != "error":
            hold_to_schema(event, "MessageStreamEvent", protocol="anthropic")
        events.append(event)
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def prompt_of(engine: ScriptedEngine, **fields: Any) -> str:
    whole(engine, **fields)
    return engine.vocabulary.detokenize(engine.requests[-1].prompt.tokens)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_a_whole_message_holds_a_block_of_text() -> None:
    engine = ScriptedEngine()
    message = whole(engine)
    assert message["content"] == [{"type": "text", "text": "Hello world", "citations": None}]
    assert (message["model"], message["stop_reason"], message["stop_sequence"]) == ("any", "end_turn", None)
    usage = message["usage"]
    num_prompt_tokens = len(engine.requests[0].prompt.tokens)
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (num_prompt_tokens - 1, 1)
    assert usage["output_tokens"] == 2


def test_a_streamed_message_opens_grows_and_closes_its_block() -> None:
    events = streamed(ScriptedEngine(["Hel", "", "lo \u2028"]))
    assert kinds(events) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["stop_reason"] is None
    assert events[0]["message"]["usage"]["input_tokens"] > 2
    assert "".join(event["delta"]["text"] for event in events[2:4]) == "Hello \u2028"
    assert {event["index"] for event in events[1:5]} == {0}
    assert (events[5]["delta"]["stop_reason"], events[5]["usage"]["output_tokens"]) == ("end_turn", 3)


def test_an_answer_of_nothing_still_has_a_block() -> None:
    assert whole(ScriptedEngine([]))["content"][0]["text"] == ""
    assert kinds(streamed(ScriptedEngine([])))[1:3] == ["content_block_start", "content_block_stop"]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "reason", "sequence"),
    [({"max_tokens": 1}, "max_tokens", None), ({"stop_sequences": ["or", "x"]}, "stop_sequence", "or")],
)
def test_why_a_message_ends(is_streamed: bool, fields: dict[str, Any], reason: str, sequence: str | None) -> None:
    end = streamed(ScriptedEngine(), **fields)[-2]["delta"] if is_streamed else whole(ScriptedEngine(), **fields)
    assert (end["stop_reason"], end["stop_sequence"]) == (reason, sequence)


def test_a_failure_in_a_stream_is_an_event() -> None:
    events = streamed(ScriptedEngine(["Hello"], error=EngineError("lost /home/someone")))
    assert events[-1]["error"]["type"] == "api_error"
    assert "/home" not in json.dumps(events)


def test_a_full_queue_is_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise QueueFull(256, retry_after_seconds=5)

    engine = ScriptedEngine()
    monkeypatch.setattr(engine, "submit", refuse)
    response = asked(engine, stream=True)
    assert (response.status_code, response.headers["retry-after"]) == (529, "5")
    assert response.json()["error"]["type"] == "overloaded_error"


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_settings_reach_the_engine() -> None:
    engine = ScriptedEngine()
    whole(engine, temperature=0.3, top_k=5, top_p=0.7, max_tokens=9, metadata={"user_id": "x"}, service_tier="auto")
    request = engine.requests[0]
    sampling = request.params.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, request.params.max_tokens) == (0.3, 5, 0.7, 9)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
    ],
    ids=["config", "before"],
)
def test_an_output_format_is_held_to(fields: dict[str, Any]) -> None:
    engine = ScriptedEngine()
    whole(engine, **fields)
    assert engine.requests[0].params.sampling.grammar == Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))


@pytest.mark.parametrize("system", ["Be kind.", [{"type": "text", "text": "Be kind.", "cache_control": None}]])
def test_the_system_speaks_first(system: object) -> None:
    assert prompt_of(ScriptedEngine(), system=system).startswith("<|im_start|>system\nBe kind.<|im_end|>\n")


def test_blocks_of_text_are_one_text() -> None:
    blocks = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert prompt_of(ScriptedEngine(), messages=[{"role": "user", "content": blocks}]) == (
        USER.format("One.\n\nTwo.") + ASSISTANT
    )


def test_messages_of_one_role_are_one_turn() -> None:
    messages = [{"role": "user", "content": text} for text in ("One.", "Two.")]
    assert prompt_of(ScriptedEngine(), messages=messages) == USER.format("One.\n\nTwo.") + ASSISTANT


def test_a_last_message_of_the_assistants_is_gone_on_with() -> None:
    messages = [*BODY["messages"], {"role": "assistant", "content": "The answer is ("}]
    assert prompt_of(ScriptedEngine(), messages=messages) == USER.format("Hi") + ASSISTANT + "The answer is ("


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "document", "source": {"type": "text", "data": "Words."}, "title": "A title"}, "A title\nWords."),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Words."}]}},
            "Words.",
        ),
        (
            {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "Words."}]},
            "T\nS\nWords.",
        ),
    ],
)
def test_documents_are_read_as_text(block: dict[str, Any], text: str) -> None:
    assert prompt_of(ScriptedEngine(), messages=[{"role": "user", "content": [block]}]) == USER.format(text) + ASSISTANT


def test_tokens_are_counted_as_they_would_be_computed() -> None:
    engine = ScriptedEngine()
    response = asked(engine, "/v1/messages/count_tokens", system="Be kind.")
    hold_to_schema(response.json(), "CountMessageTokensResponse", protocol="anthropic")
    assert not engine.requests
    whole(engine, system="Be kind.")
    assert response.json()["input_tokens"] == len(engine.requests[0].prompt.tokens)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": "x"}, "'messages' must be a list"),
        ({"messages": [1]}, "'messages[0]' must be an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'messages[0].role' must be one of"),
        ({"messages": [{"role": "user"}]}, "'messages[0].content' must be a text or a list"),
        ({"messages": [{"role": "user", "content": [1]}]}, "'messages[0].content[0]' must be an object"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "'messages[0].content[0].text' must be"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "a block of type x"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "must be of type base64"),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
            "reads no PDFs",
        ),
        ({"system": 5}, "'system' must be a text or a list"),
        ({"max_tokens": "x"}, "'max_tokens' must be a whole number"),
        ({"stop_sequences": [1]}, "'stop_sequences' must be"),
        ({"temperature": "hot"}, "'temperature' must be a number"),
        ({"output_config": {"format": {"type": "xml"}}}, "must have the type 'json_schema'"),
        ({"container": "c"}, "'container' is not supported"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:40],
)
def test_what_can_not_be_done_is_told_in_anthropics_shape(fields: dict[str, Any], words: str) -> None:
    for is_streamed in (False, True):
        response = asked(ScriptedEngine(), stream=is_streamed, **fields)
        assert response.status_code == 400
        hold_to_schema(response.json(), "ErrorResponse", protocol="anthropic")
        assert words in response.json()["error"]["message"]


def test_the_list_of_models_is_anthropics_too() -> None:
    app = make_app(ScriptedEngine())
    hold_to_schema(ask(app, "GET", "/v1/models").json(), "ListResponse_ModelInfo_", protocol="anthropic")
    hold_to_schema(ask(app, "GET", "/v1/models/scripted").json(), "ModelInfo", protocol="anthropic")
