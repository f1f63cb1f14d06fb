import json
import threading
from typing import Any

import pytest

from runtime.engine.values.facts import FillTokens
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import EngineError, RequestError
from runtime.nursery import Patience
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
    assert reply["timings"]["predicted_per_second"] == 4.0  # the first token takes no step of its own
    assert (reply["index"], reply["id_slot"]) == (0, 0)
    assert engine.requests[0].params.sampling == SamplingParams(repeat_penalty=1.1)
    assert engine.requests[0].params.max_tokens is None


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
    assert request.params.sampling == SamplingParams(**fields)  # type: ignore[arg-type]
    assert (request.params.ignore_eos, request.params.cache_prompt, request.params.max_tokens) == (True, False, 9)
    assert settings.items() >= {**fields, "n_predict": 9, "ignore_eos": True}.items()


@pytest.mark.parametrize(
    ("seed", "drawn"), [(-1, None), (2**32 - 1, None), (2**32 + 5, 5), (0, 0), (None, None), (10**60, 0)]
)
def test_seeds_fit_llama_cpp(seed: int | None, drawn: int | None) -> None:
    engine = ScriptedEngine()
    ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", "seed": seed})
    assert engine.requests[0].params.sampling.seed == drawn


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("Hi</s>", (BOS, 72, 105, EOS)),
        ([72, 105], (72, 105)),
        (["Hi", 33, "!"], (BOS, 72, 105, 33, 33)),
        (["Hi"], (BOS, 72, 105)),
        ({"prompt_string": "Hi", "multimodal_data": []}, (BOS, 72, 105)),
        ([[72, 105]], (72, 105)),
    ],
)
def test_a_prompt_is_text_or_tokens(prompt: object, tokens: tuple[int, ...]) -> None:
    engine = ScriptedEngine(add_bos=True)
    assert ask(make_app(engine), "POST", "/completion", json={"prompt": prompt}).status_code == 200
    assert engine.requests[0].prompt.tokens == tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", ["b", "c"]]}, "prompt"),
        ({"prompt": ["a", {}]}, "prompt"),
        ({"prompt": ["a"] * 257}, "prompt"),
        ({"prompt": {"prompt_string": "a", "multimodal_data": ["AA=="]}}, "prompt"),
        ({"prompt": {"multimodal_data": []}}, "prompt"),
        ({"n_cmpl": 0}, "n_cmpl"),
        ({"n_cmpl": 100, "prompt": ["a", "b", "c"]}, "n_cmpl"),
        ({"id_slot": 1.5}, "id_slot"),
        ({"response_fields": 3}, "response_fields"),
        ({"n_keep": -2}, "n_keep"),
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


MANY = ["Hi", [33], ["a", 33], {"prompt_string": "b"}]


def test_several_prompts_are_answered_in_their_order() -> None:
    engine = ScriptedEngine()
    body = {"prompt": MANY, "n_cmpl": 2, "seed": 5, "id_slot": 1}
    replies = ask(make_app(engine), "POST", "/completion", json=body).json()
    assert [reply["index"] for reply in replies] == list(range(8))
    assert [reply["prompt"] for reply in replies] == ["Hi", "Hi", "!", "!", "a!", "a!", "b", "b"]
    assert {reply["content"] for reply in replies} == {"Hello world"}
    assert [request.params.sampling.seed for request in engine.requests] == [5, 6] * 4
    assert [request.params.slot for request in engine.requests] == [1, None] * 4


def test_several_answers_share_a_stream() -> None:
    body = {"prompt": MANY, "stream": True}
    response = ask(make_app(ScriptedEngine()), "POST", "/completion", json=body)
    events = [json.loads(event) for event in events_of(response.text)]
    for index in range(4):
        mine = [event for event in events if event["index"] == index]
        assert "".join(event["content"] for event in mine) == "Hello world"
        assert [event["stop"] for event in mine] == [False, False, True]


@pytest.mark.parametrize("stream", [False, True])
def test_when_one_of_several_can_not_be_taken_none_is_computed(stream: bool) -> None:
    engine = ScriptedEngine(is_held=True, n_ctx=5)
    response = ask(make_app(engine), "POST", "/completion", json={"prompt": ["Hi", "too long"], "stream": stream})
    assert (response.status_code, response.json()["error"]["type"]) == (400, "exceed_context_size_error")
    assert engine.num_processing == 0


def test_a_failure_of_one_of_several_answers_is_in_its_own_event() -> None:
    engine = ScriptedEngine(["Hello"], error=EngineError("broken"))
    response = ask(make_app(engine), "POST", "/completion", json={"prompt": ["a", "b"], "stream": True})
    events = [json.loads(event) for event in events_of(response.text)]
    assert sorted(event["index"] for event in events if event["stop"]) == [0, 1]
    assert all(event["error"]["code"] == 500 for event in events if event["stop"])


def test_tokens_come_back_only_when_they_are_asked_for() -> None:
    app = make_app(ScriptedEngine())
    assert ask(app, "POST", "/completion", json={"prompt": "Hi"}).json()["tokens"] == []
    assert ask(app, "POST", "/completion", json={"prompt": "Hi", "return_tokens": True}).json()["tokens"] == [0, 1]


def test_progress_and_timings_are_streamed_to_who_wants_them() -> None:
    body = {"prompt": "Hi", "stream": True, "return_progress": True, "timings_per_token": True, "id_slot": 3}
    response = ask(make_app(ScriptedEngine()), "POST", "/completion", json=body)
    events = [json.loads(event) for event in events_of(response.text)]
    told = [event["prompt_progress"] for event in events if "prompt_progress" in event]
    assert told == [
        {"total": 2, "cache": 0, "processed": 0, "time_ms": 0.0},
        {"total": 2, "cache": 0, "processed": 2, "time_ms": 20.0},
    ]
    assert [event["timings"]["predicted_n"] for event in events] == [0, 0, 1, 2, 2]
    assert {event["id_slot"] for event in events} == {3}
    assert all("content" in event for event in events)


def test_neither_is_told_to_who_does_not() -> None:
    engine = ScriptedEngine()
    response = ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", "stream": True})
    events = [json.loads(event) for event in events_of(response.text)]
    assert not any("prompt_progress" in event for event in events)
    assert ["timings" in event for event in events] == [False, False, True]
    body = {"prompt": "Hi", "return_progress": True, "timings_per_token": True}  # without a stream
    assert "prompt_progress" not in ask(make_app(engine), "POST", "/completion", json=body).json()


def test_only_the_fields_that_are_asked_for_are_given() -> None:
    fields = ["content", "generation_settings/n_predict", "timings/nothing", "content/x", "prompt"]
    body = {"prompt": "Hi", "n_predict": 9, "response_fields": fields}
    assert ask(make_app(ScriptedEngine()), "POST", "/completion", json=body).json() == {
        "content": "Hello world",
        "generation_settings/n_predict": 9,
        "prompt": "Hi",
    }


def test_generation_settings_are_llama_servers() -> None:
    body = {"prompt": "Hi", "logit_bias": [[5, False], [6, 1.5]], "samplers": "kp", "n_keep": 3, "n_discard": 4}
    settings = ask(make_app(ScriptedEngine()), "POST", "/completion", json=body).json()["generation_settings"]
    assert settings["logit_bias"] == [{"token": 5, "bias": None}, {"token": 6, "bias": 1.5}]
    assert settings["samplers"] == ["top_k", "top_p"]
    body = {"prompt": "Hi", "ignore_eos": True}
    without_end = ask(make_app(ScriptedEngine()), "POST", "/completion", json=body).json()["generation_settings"]
    assert without_end["logit_bias"] == [{"token": EOS, "bias": None}]
    assert (settings["n_keep"], settings["n_discard"]) == (3, 4)
    assert settings["adaptive_decay"] == 0.9


@pytest.mark.parametrize(("milliseconds", "seconds"), [(500, 0.5), (-1, None), (0, None)])
def test_a_time_limit_reaches_the_engine(milliseconds: int, seconds: float | None) -> None:
    engine = ScriptedEngine()
    ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", "t_max_predict_ms": milliseconds})
    assert engine.requests[0].params.max_seconds == seconds


# -- /infill ----------------------------------------------------------------------------------------------------------


def test_a_gap_is_filled_with_the_models_own_marks() -> None:
    engine = ScriptedEngine(["mid"], add_bos=True)
    engine.vocabulary.fill_tokens = FillTokens(prefix=200, suffix=201, middle=202)
    body = {"input_prefix": "a", "prompt": "b", "input_suffix": "c", "input_extra": [{"text": "x"}], "n_predict": 5}
    reply = ask(make_app(engine), "POST", "/infill", json=body).json()
    assert reply["content"] == "mid"
    request = engine.requests[0]
    assert request.prompt.tokens[-7:] == (BOS, 200, 97, 98, 201, 99, 202)
    assert bytes(request.prompt.tokens[:-7]).endswith(b"x")
    assert request.params.max_tokens == 5


def test_a_model_that_fills_no_gaps_says_so() -> None:
    body = {"input_prefix": "a", "input_suffix": "c"}
    response = ask(make_app(ScriptedEngine()), "POST", "/infill", json=body)
    assert (response.status_code, response.json()["error"]["type"]) == (501, "not_supported_error")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_prefix": None}, "input_prefix"),
        ({"input_suffix": None}, "input_suffix"),
        ({"input_suffix": 5}, "input_suffix"),
        ({"prompt": ["a"]}, "prompt"),
        ({"input_extra": {}}, "input_extra"),
        ({"input_extra": [{}]}, "input_extra[0]"),
        ({"input_extra": [{"text": "a"}, {"text": "b", "filename": 5}]}, "input_extra[1]"),
        ({"input_extra": ["a"]}, "input_extra[0]"),
    ],
    ids=str,
)
def test_a_gap_that_is_none_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    engine = ScriptedEngine()
    engine.vocabulary.fill_tokens = FillTokens(200, 201, 202)
    body = {"input_prefix": "a", "input_suffix": "c", **fields}
    response = ask(make_app(engine), "POST", "/infill", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


# -- texts, tokens, templates -----------------------------------------------------------------------------------------


def test_messages_become_the_templates_prompt() -> None:
    engine = ScriptedEngine(chat_template="{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    assert ask(make_app(engine), "POST", "/apply-template", json=body).json() == {"prompt": "[user]Hi"}
    assert not engine.requests
    assert ask(make_app(engine), "POST", "/apply-template", json={}).json()["error"]["param"] == "messages"


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


class Preparing(ScriptedEngine):
    """Remembers what was prepared, and on which threads."""

    def __init__(self) -> None:
        super().__init__()
        self.samplings: list[SamplingParams] = []
        self.threads: set[str] = set()

    def prepare(self, sampling: SamplingParams, patience: Patience | None = None) -> None:
        self.samplings.append(sampling)
        self.threads.add(threading.current_thread().name)


@pytest.mark.parametrize(
    ("fields", "num_prepared"),
    [
        ({}, 0),
        ({"dry_multiplier": 0.8}, 1),
        ({"dry_multiplier": 0.8, "n_cmpl": 3}, 1),
        ({"dry_multiplier": 0.8, "samplers": "kpt"}, 0),
        ({"dry_multiplier": 0.8, "mirostat": 2}, 0),
        ({"grammar": 'root ::= "x"', "n_cmpl": 2, "seed": 3}, 1),
    ],
)
def test_what_takes_long_is_prepared_once_and_beside_the_event_loop(fields: dict[str, Any], num_prepared: int) -> None:
    engine = Preparing()
    assert ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi", **fields}).status_code == 200
    assert len(engine.samplings) == num_prepared
    assert threading.current_thread().name not in engine.threads


def test_a_grammar_reaches_the_engine_prepared() -> None:
    engine = ScriptedEngine()
    body = {"prompt": "Hi", "grammar": 'root ::= "x"'}
    settings = ask(make_app(engine), "POST", "/completion", json=body).json()["generation_settings"]
    assert (
        engine.prepared == [engine.requests[0].params.sampling.grammar] == [Grammar(GrammarKind.GBNF, 'root ::= "x"')]
    )
    assert settings["grammar"] == 'root ::= "x"'


def test_a_grammar_that_cannot_be_used_is_a_400(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_sampling: SamplingParams, patience: Patience) -> None:
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


def test_the_token_that_ends_the_text_has_its_entry_and_its_id() -> None:
    engine = ScriptedEngine()
    engine.end_token = EOS
    body = {"prompt": "Hi", "n_probs": 1, "return_tokens": True}
    reply = ask(make_app(engine), "POST", "/completion", json=body).json()
    assert [each["id"] for each in reply["completion_probabilities"]] == reply["tokens"] == [0, 1, EOS]
    assert (reply["content"], reply["completion_probabilities"][-1]["token"]) == ("Hello world", "")


def test_a_stream_tells_the_token_that_ends_the_text_before_its_last_event() -> None:
    engine = ScriptedEngine(["one", ""])
    engine.end_token = EOS
    app, body = make_app(engine), {"prompt": "Hi", "stream": True, "return_tokens": True}
    *_events, last = map(json.loads, events_of(ask(app, "POST", "/completion", json=body).text))
    assert (last["content"], last["tokens"], last["stop"]) == ("", [1, EOS], True)
    *_events, end, last = map(json.loads, events_of(ask(app, "POST", "/completion", json={**body, "n_probs": 1}).text))
    assert (end["content"], end["tokens"], end["stop"]) == ("", [1, EOS], False)
    assert [each["id"] for each in end["completion_probabilities"]] == [EOS]
    assert (last["tokens"], "completion_probabilities" in last) == ([], False)


def test_there_are_no_probabilities_unless_they_are_asked_for() -> None:
    reply = ask(make_app(ScriptedEngine()), "POST", "/completion", json={"prompt": "Hi"}).json()
    assert "completion_probabilities" not in reply
