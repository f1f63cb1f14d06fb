"""Tools, thinking and begun answers in OpenAI's chat completions."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.values.grammar import GrammarKind
from runtime.server.asking.conversation import ChatDefaults
from tests.fakes import ScriptedEngine
from tests.serving import ask, events_of, make_app

HI = {"messages": [{"role": "user", "content": "Hi"}]}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Tells the weather.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = [
    "Let me see.\n",
    "<tool_",
    'call>\n{"name": "wea',
    'ther", "arguments": {"ci',
    'ty": "Paris"}',
    "}\n</tool_call>",
]
THINKER = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is not false %}<think>\n{% endif %}{% endif %}"
)


def chat(engine: ScriptedEngine, **fields: Any) -> dict[str, Any]:
    response = ask(make_app(engine), "POST", "/v1/chat/completions", json={**HI, **fields})
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def stream(engine: ScriptedEngine, **fields: Any) -> list[dict[str, Any]]:
    body = {**HI, **fields, "stream": True}
    *events, done = events_of(ask(make_app(engine), "POST", "/v1/chat/completions", json=body).text)
    assert done == "[DONE]"
    return [choice for event in events for choice in json.loads(event)["choices"]]


def refusal(**fields: Any) -> dict[str, Any]:
    response = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json={**HI, **fields})
    assert response.status_code == 400, response.text
    return response.json()["error"]  # type: ignore[no-any-return]


def prompt_of(engine: ScriptedEngine) -> str:
    return engine.vocabulary.detokenize(engine.requests[-1].prompt.tokens)


def test_a_call_is_told_apart_from_the_text_before_it() -> None:
    choice = chat(ScriptedEngine(CALL), tools=TOOLS)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}


def test_an_answer_that_is_nothing_but_a_call_has_no_content() -> None:
    assert chat(ScriptedEngine(CALL[1:]), tools=TOOLS)["choices"][0]["message"]["content"] is None


def test_a_streamed_call_begins_with_its_name_and_goes_on_with_its_arguments() -> None:
    choices = stream(ScriptedEngine(CALL), tools=TOOLS)
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Let me see."
    first, *rest = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert (first["index"], first["type"], first["function"]) == (0, "function", {"name": "weather", "arguments": ""})
    assert [call["function"] for call in rest] == [{"arguments": '{"ci'}, {"arguments": 'ty": "Paris"}'}]
    assert {call["index"] for call in rest} == {0}
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_a_call_that_is_cut_off_ended_for_its_length() -> None:
    choice = chat(ScriptedEngine(CALL), tools=TOOLS, max_tokens=4)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"ci'


@pytest.mark.parametrize(
    ("fields", "is_lazy"),
    [
        ({}, True),
        ({"tool_choice": "auto"}, True),
        ({"tool_choice": "required"}, False),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, False),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": TOOLS}}}, False),
        ({"response_format": {"type": "json_object"}}, False),
    ],
    ids=str,
)
def test_calls_are_held_to_a_grammar(fields: dict[str, Any], is_lazy: bool) -> None:
    engine = ScriptedEngine(CALL)
    chat(engine, tools=TOOLS, **fields)
    grammar = engine.requests[0].params.sampling.grammar
    assert grammar is not None
    assert grammar.kind is GrammarKind.LARK
    assert grammar.triggers == (("<tool_call>",) if is_lazy else ())
    assert grammar in engine.prepared


def test_of_several_tools_only_the_named_one_may_be_called() -> None:
    engine = ScriptedEngine(CALL)
    other = {"type": "function", "function": {"name": "other"}}
    chat(engine, tools=[*TOOLS, other], tool_choice={"type": "function", "function": {"name": "other"}})
    grammar = engine.requests[0].params.sampling.grammar
    assert grammar is not None
    assert "other" in grammar.source
    assert "weather" not in grammar.source
    assert '"weather"' in prompt_of(engine)  # the model knows of it all the same


@pytest.mark.parametrize(
    ("fields", "is_repeated"),
    [
        ({"tool_choice": "required"}, True),
        ({"tool_choice": "required", "parallel_tool_calls": False}, False),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, False),
    ],
    ids=str,
)
def test_a_named_tool_is_called_once(fields: dict[str, Any], is_repeated: bool) -> None:
    engine = ScriptedEngine(CALL)
    chat(engine, tools=TOOLS, **fields)
    grammar = engine.requests[0].params.sampling.grammar
    assert grammar is not None
    (calls,) = [line for line in grammar.source.splitlines() if line.startswith("calls:")]
    assert (")*" in calls) is is_repeated


@pytest.mark.parametrize("fields", [{"tool_choice": "none", "tools": TOOLS}, {"tools": []}, {}])
def test_without_tools_nothing_is_a_call(fields: dict[str, Any]) -> None:
    engine = ScriptedEngine(CALL)
    choice = chat(engine, **fields)["choices"][0]
    assert choice["message"]["content"] == "".join(CALL)
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert engine.requests[0].params.sampling.grammar is None
    assert "weather" not in prompt_of(engine)


def test_functions_are_called_as_before_there_were_tools() -> None:
    engine = ScriptedEngine(CALL[1:])
    choice = chat(engine, functions=[FUNCTION], function_call={"name": "weather"})["choices"][0]
    assert choice["message"]["function_call"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert choice["finish_reason"] == "function_call"
    deltas = [choice["delta"] for choice in stream(engine, functions=[FUNCTION])]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert calls[0]["name"] == "weather"
    assert "".join(call["arguments"] for call in calls) == '{"city": "Paris"}'


def test_calls_and_results_of_earlier_turns_reach_a_model_whose_template_knows_none() -> None:
    called = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        *HI["messages"],
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "x", "content": "sunny"},
    ]
    engine = ScriptedEngine()
    chat(engine, messages=messages, tools=TOOLS)
    prompt = prompt_of(engine)
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>' in prompt
    assert "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>" in prompt
    assert prompt.startswith("<|im_start|>system\n")
    assert "Tells the weather." in prompt


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": "weather"}, "tools"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a", "strict": 1}}]}, "tools[0].function.strict"),
        ({"tools": TOOLS * 2}, "tools"),
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "grammar": 'root ::= "a"'}, "grammar"),
        ({"functions": {}}, "functions"),
        ({"reasoning_format": "other"}, "reasoning_format"),
        ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs.enable_thinking"),
        ({"reasoning_budget_tokens": 100}, "reasoning_budget_tokens"),
        ({"messages": [*HI["messages"], *([{"role": "assistant", "content": "a"}] * 2)]}, "messages"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_with_its_place(fields: dict[str, Any], param: str) -> None:
    error = refusal(**fields)
    assert error["param"] == param
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("fields", "content", "reasoning"),
    [
        ({}, "Hello", "Hm."),
        ({"reasoning_format": "none"}, "Hm.\n</think>\n\nHello", None),
        ({"reasoning_effort": "none"}, "Hm.\n</think>\n\nHello", None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "Hm.\n</think>\n\nHello", None),
    ],
    ids=str,
)
def test_thinking_that_the_prompt_begins_is_told_apart(
    fields: dict[str, Any], content: str, reasoning: str | None
) -> None:
    engine = ScriptedEngine(["Hm.\n</thi", "nk>\n\nHel", "lo"], chat_template=THINKER)
    message = chat(engine, **fields)["choices"][0]["message"]
    assert (message["content"], message.get("reasoning_content")) == (content, reasoning)
    is_asked = "enable_thinking" not in str(fields) and "effort" not in str(fields)
    assert prompt_of(engine).endswith("<assistant><think>\n" if is_asked else "<assistant>")


def test_thinking_is_streamed_as_reasoning_content() -> None:
    choices = stream(ScriptedEngine(["Hm", ", well.\n</thi", "nk>\n\nHel", "lo"], chat_template=THINKER))
    deltas = [choice["delta"] for choice in choices]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["Hm", ", well."]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Hel", "lo"]


def test_the_server_can_turn_thinking_off() -> None:
    engine = ScriptedEngine(chat_template=THINKER)
    app = make_app(engine, chat=ChatDefaults(thinking=False))
    ask(app, "POST", "/v1/chat/completions", json=HI)
    assert prompt_of(engine).endswith("<assistant>")


def test_a_form_of_the_answer_leaves_room_for_thinking() -> None:
    engine = ScriptedEngine(chat_template=THINKER)
    chat(engine, response_format={"type": "json_object"})
    grammar = engine.requests[0].params.sampling.grammar
    assert grammar is not None
    assert grammar.source.startswith("start: thought (answer)")


def test_probabilities_are_those_of_the_answer_not_of_the_thinking() -> None:
    pieces = ["Hm.", "</think>", "Hel", "lo"]
    choice = chat(ScriptedEngine(pieces, chat_template=THINKER), logprobs=True)["choices"][0]
    assert [each["token"] for each in choice["logprobs"]["content"]] == ["Hel", "lo"]
    choices = stream(ScriptedEngine(pieces, chat_template=THINKER), logprobs=True)
    told = [each["token"] for choice in choices if choice["logprobs"] for each in choice["logprobs"]["content"]]
    assert told == ["Hel", "lo"]


def test_an_answer_that_is_begun_goes_on() -> None:
    engine = ScriptedEngine()
    chat(engine, messages=[*HI["messages"], {"role": "assistant", "content": "Once upon"}])
    assert prompt_of(engine).endswith("<|im_start|>assistant\nOnce upon")
    fields = {"continue_final_message": True, "add_generation_prompt": False}  # vLLM asks so
    chat(engine, messages=[{"role": "assistant", "content": "Once"}], **fields)
    assert prompt_of(engine) == "<|im_start|>assistant\nOnce"


def test_the_parts_of_an_answer_that_is_begun_are_paragraphs() -> None:
    engine = ScriptedEngine()
    parts = [{"type": "text", "text": "Once"}, {"type": "text", "text": "upon"}]
    chat(engine, messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": parts}])
    assert prompt_of(engine).startswith("<|im_start|>user\nOnce\nupon<|im_end|>")
    assert prompt_of(engine).endswith("<|im_start|>assistant\nOnce\n\nupon")


def test_the_prompt_may_be_left_without_the_assistants_beginning() -> None:
    engine = ScriptedEngine()
    chat(engine, add_generation_prompt=False)
    assert prompt_of(engine) == "<|im_start|>user\nHi<|im_end|>\n"


def test_a_verbose_answer_tells_its_prompt() -> None:
    reply = chat(ScriptedEngine(add_bos=True), verbose=True)
    assert reply["__verbose"]["prompt"] == "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert "__verbose" not in chat(ScriptedEngine())


def test_the_tokens_of_a_prompt_are_counted() -> None:
    reply = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions/input_tokens", json=HI).json()
    assert reply["input_tokens"] == len("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_a_stream_tells_how_far_the_prompt_is_and_its_timings() -> None:
    fields = {**HI, "stream": True, "return_progress": True, "timings_per_token": True}
    text = ask(make_app(ScriptedEngine()), "POST", "/v1/chat/completions", json=fields).text
    chunks = [json.loads(event) for event in events_of(text)[:-1]]
    assert [chunk["prompt_progress"]["processed"] for chunk in chunks if "prompt_progress" in chunk] == [0, 52]
    assert [chunk["timings"]["predicted_n"] for chunk in chunks if chunk["choices"][0]["delta"].get("content")] == [
        1,
        2,
    ]


def test_a_prompt_is_applied_with_its_tools() -> None:
    body = {**HI, "tools": TOOLS, "add_generation_prompt": False}
    reply = ask(make_app(ScriptedEngine()), "POST", "/apply-template", json=body).json()
    assert "Tells the weather." in reply["prompt"]
    assert reply["prompt"].endswith("<|im_start|>user\nHi<|im_end|>\n")


_NAMES = st.sampled_from(["type", "properties", "required", "enum", "items", "anyOf", "a", "string", "object", "name"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
TAGGER = (
    "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}\n"
    "{% for k, v in c.function.arguments.items() %}<key>{{ k }}</key><value>{{ v }}</value>\n{% endfor %}</call>"
    "{% endfor %}{% endfor %}"
)


@settings(max_examples=60)
@given(_JSON, _JSON, _JSON, st.sampled_from([None, TAGGER]))
def test_whatever_tools_are_it_is_an_answer_or_a_refusal(
    parameters: object, choice: object, strict: object, template: str | None
) -> None:
    function = {"name": "do", "parameters": {"properties": parameters, "required": strict}, "strict": strict}
    described = [{"type": "function", "function": {**function, "parameters": parameters}}]
    for tools in (parameters, described, [{"type": "function", "function": function}]):
        body = {**HI, "tools": tools, "tool_choice": choice}
        response = ask(make_app(ScriptedEngine(chat_template=template)), "POST", "/v1/chat/completions", json=body)
        assert response.status_code in (200, 400), response.text
