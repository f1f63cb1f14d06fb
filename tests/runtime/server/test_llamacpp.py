import json

import pytest

from runtime.engine.grammar import Grammar, GrammarKind
from runtime.engine.sampling import SamplingParams
from runtime.errors import EngineError, RequestError
from tests.fakes import BOS, EOS, ScriptedEngine
from tests.serving import ask, events_of, make_app

# What langchain_community's Llamafile sends by default.
LLAMAFILE = {
    "prompt": "Hi",
    "seed": -1,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "n_predict": -1,
    "n_keep": 0,
    "tfs_z": 1.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
    "penalize_nl": True,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
}


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_a_completion(path: str) -> None:
    engine = ScriptedEngine()
    response = ask(make_app(engine), "POST", path, json={**LLAMAFILE, "return_tokens": True})
    assert response.status_code == 200
    reply = response.json()
    assert reply["content"] == "Hello world"
    assert reply["tokens"] == [0, 1]
    assert (reply["stop"], reply["stop_type"], reply["stopping_word"]) == (True, "eos", "")
    assert (reply["tokens_predicted"], reply["tokens_evaluated"], reply["tokens_cached"]) == (2, 2, 3)
    assert (reply["model"], reply["prompt"], reply["truncated"]) == ("scripted", "Hi", False)
    assert reply["generation_settings"]["repeat_penalty"] == 1.1
    assert reply["timings"]["predicted_per_second"] == 8.0
    assert engine.requests[0].sampling == SamplingParams(repeat_penalty=1.1)
    assert engine.requests[0].max_tokens is None


def test_a_stream_is_data_with_content_and_nothing_else() -> None:
    engine = ScriptedEngine(["one\u2028", "", "two"])
    response = ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = [json.loads(event) for event in events_of(response.text)]
    assert [event["content"] for event in events] == ["one\u2028", "two", ""]
    assert [event["tokens"] for event in events] == [[0], [1, 2], []]
    assert [event["stop"] for event in events] == [False, False, True]
    assert events[-1]["stop_type"] == "eos"
    assert "[DONE]" not in response.text


@pytest.mark.parametrize(("piece", "expected"), [("a\nb", True), ("ab", False)])
@pytest.mark.parametrize("stream", [False, True])
def test_a_new_line_is_told_of(piece: str, expected: bool, stream: bool) -> None:
    response = ask(make_app(ScriptedEngine([piece])), "POST", "/completion", json={"prompt": "Hi", "stream": stream})
    last = json.loads(events_of(response.text)[-1]) if stream else response.json()
    assert last["has_new_line"] is expected


@pytest.mark.parametrize(
    ("fields", "content", "stop_type", "word"),
    [
        ({"n_predict": 1}, "Hello", "limit", ""),
        ({"n_predict": 0}, "", "limit", ""),
        ({"n_predict": -1, "stop": ["lo w", "xyz"]}, "Hel", "word", "lo w"),
        ({"stop": "world"}, "Hello ", "word", "world"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_where_an_answer_ends(fields: dict[str, object], content: str, stop_type: str, word: str, stream: bool) -> None:
    body = {"prompt": "Hi", "stream": stream, **fields}
    response = ask(make_app(ScriptedEngine()), "POST", "/completion", json=body)
    events = [json.loads(event) for event in events_of(response.text)] if stream else [response.json()]
    assert "".join(event["content"] for event in events) == content
    assert (events[-1]["stop_type"], events[-1]["stopping_word"]) == (stop_type, word)


def test_every_sampling_field_reaches_the_engine() -> None:
    engine = ScriptedEngine()
    fields = {
        "temperature": 0.1,
        "top_k": 5,
        "top_p": 0.2,
        "min_p": 0.3,
        "typical_p": 0.4,
        "repeat_penalty": 1.5,
        "repeat_last_n": -1,
        "presence_penalty": 0.6,
        "frequency_penalty": 0.7,
        "seed": 8,
    }
    body = {"prompt": "Hi", "ignore_eos": True, "cache_prompt": False, "n_predict": 9, **fields}
    settings = ask(make_app(engine), "POST", "/completion", json=body).json()["generation_settings"]
    request = engine.requests[0]
    assert request.sampling == SamplingParams(**fields)  # type: ignore[arg-type]
    assert (request.ignore_eos, request.cache_prompt, request.max_tokens) == (True, False, 9)
    assert settings.items() >= {**fields, "n_predict": 9, "ignore_eos": True}.items()


@pytest.mark.parametrize(
    ("seed", "drawn"), [(-1, None), (2**32 - 1, None), (2**32 + 5, 5), (0, 0), (None, None), (10**60, 0)]
)
def test_seeds_fit_llama_cpp(seed: int | None, drawn: int | None) -> None:
    engine = ScriptedEngine()
    ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", "seed": seed})
    assert engine.requests[0].sampling.seed == drawn


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("Hi</s>", (BOS, 72, 105, EOS)),
        ([72, 105], (72, 105)),
        (["Hi", 33, "!"], (BOS, 72, 105, 33, 33)),
        (["Hi"], (BOS, 72, 105)),
        ([[72, 105]], (72, 105)),
    ],
)
def test_a_prompt_is_text_or_tokens(prompt: object, tokens: tuple[int, ...]) -> None:
    engine = ScriptedEngine(add_bos=True)
    assert ask(make_app(engine), "POST", "/completion", json={"prompt": prompt}).status_code == 200
    assert engine.requests[0].prompt_tokens == tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 2**40}, "top_k"),
        ({"repeat_penalty": 0}, "repeat_penalty"),
        ({"repeat_last_n": -2}, "repeat_last_n"),
        ({"stream": "yes"}, "stream"),
        ({"stop": [1]}, "stop"),
        ({"n_predict": 1.5}, "n_predict"),
        ({"grammar": 5}, "grammar"),
        ({"grammar_lazy": True}, "grammar_lazy"),
        ({"json_schema": "x"}, "json_schema"),
        ({"n_probs": -1}, "n_probs"),
        ({"n_probs": 100_000}, "n_probs"),
        ({"post_sampling_probs": 1}, "post_sampling_probs"),
        ({"mirostat": 3}, "mirostat"),
    ],
    ids=str,
)
def test_a_bad_field_is_named(fields: dict[str, object], param: str) -> None:
    response = ask(make_app(ScriptedEngine()), "POST", "/completion", json={"prompt": "Hi", **fields})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", 400, param)


def test_a_prompt_that_does_not_fit_is_told_with_the_numbers() -> None:
    response = ask(make_app(ScriptedEngine(n_ctx=3)), "POST", "/completion", json={"prompt": "Hello", "stream": True})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["n_prompt_tokens"], error["n_ctx"]) == ("exceed_context_size_error", 5, 3)


def test_a_failure_in_a_stream_is_its_last_event() -> None:
    engine = ScriptedEngine(["Hello"], error=EngineError("lost /home/someone/model.gguf"))
    response = ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", "stream": True})
    first, last = (json.loads(event) for event in events_of(response.text))
    assert first["content"] == "Hello"
    assert (last["content"], last["stop"], last["error"]["code"]) == ("", True, 500)
    assert "/home" not in response.text


def test_tokens_come_back_as_text() -> None:
    app = make_app(ScriptedEngine(add_bos=True))
    tokens = ask(app, "POST", "/tokenize", json={"content": "é</s>", "add_special": True}).json()["tokens"]
    assert tokens == [BOS, 0xC3, 0xA9, EOS]
    assert ask(app, "POST", "/detokenize", json={"tokens": tokens}).json() == {"content": "<s>é</s>"}
    plain = ask(app, "POST", "/tokenize", json={"content": "</s>", "parse_special": False}).json()["tokens"]
    assert plain == list(b"</s>")
    pieces = ask(app, "POST", "/tokenize", json={"content": "aé", "with_pieces": True}).json()["tokens"]
    assert pieces == [{"id": 97, "piece": "a"}, {"id": 0xC3, "piece": [0xC3]}, {"id": 0xA9, "piece": [0xA9]}]


@pytest.mark.parametrize("tokens", [[9999], ["a"], [True], "ab"])
def test_tokens_that_are_none_are_refused(tokens: object) -> None:
    assert ask(make_app(ScriptedEngine()), "POST", "/detokenize", json={"tokens": tokens}).status_code == 400


def test_props_tell_what_a_client_needs() -> None:
    props = ask(make_app(ScriptedEngine()), "GET", "/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 4096
    assert props["default_generation_settings"]["params"]["temperature"] == 0.8
    assert (props["total_slots"], props["model_alias"], props["build_info"]) == (4, "scripted", "test")
    assert (props["bos_token"], props["eos_token"]) == ("<s>", "</s>")
    assert "<|im_start|>" in props["chat_template"]


def test_a_grammar_reaches_the_engine_prepared() -> None:
    engine = ScriptedEngine()
    body = {"prompt": "Hi", "grammar": 'root ::= "x"'}
    settings = ask(make_app(engine), "POST", "/completion", json=body).json()["generation_settings"]
    assert engine.prepared == [engine.requests[0].sampling.grammar] == [Grammar(GrammarKind.GBNF, 'root ::= "x"')]
    assert settings["grammar"] == 'root ::= "x"'


def test_a_grammar_that_cannot_be_used_is_a_400(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_grammar: Grammar) -> None:
        raise RequestError("the grammar can't be used", "grammar")

    engine = ScriptedEngine()
    monkeypatch.setattr(engine, "prepare", refuse)
    response = ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", "grammar": "x", "stream": True})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "grammar")
    assert engine.requests == []


@pytest.mark.parametrize("name", ["n_probs", "logprobs"])
def test_probabilities_come_in_llama_servers_shape(name: str) -> None:
    reply = ask(make_app(ScriptedEngine()), "POST", "/completion", json={"prompt": "Hi", name: 2}).json()
    first, second = reply["completion_probabilities"]
    assert (first["id"], first["token"], first["bytes"]) == (0, "Hello", list(b"Hello"))
    assert [likely["id"] for likely in second["top_logprobs"]] == [1, 2]
    assert second["logprob"] == second["top_logprobs"][0]["logprob"] == pytest.approx(-0.6931, abs=1e-4)
    assert reply["generation_settings"]["n_probs"] == 2


def test_each_event_of_a_stream_has_the_probabilities_of_its_text() -> None:
    engine = ScriptedEngine(["one", "", "two"])
    body = {"prompt": "Hi", "stream": True, "n_probs": 1, "post_sampling_probs": True}
    events = [json.loads(event) for event in events_of(ask(make_app(engine), "POST", "/completion", json=body).text)]
    assert [[each["token"] for each in event["completion_probabilities"]] for event in events[:-1]] == [
        ["one"],
        ["", "two"],
    ]
    assert events[0]["completion_probabilities"][0]["prob"] == 0.5
    assert "completion_probabilities" not in events[-1]


def test_there_are_no_probabilities_unless_they_are_asked_for() -> None:
    reply = ask(make_app(ScriptedEngine()), "POST", "/completion", json={"prompt": "Hi"}).json()
    assert "completion_probabilities" not in reply
