import json
import math
from datetime import datetime
from typing import Any

import pytest

from runtime.engine.values.facts import FillTokens, Pooling
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.engine.values.request import GenerationRequest
from runtime.errors import EngineError
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

HI = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {"/api/generate": {"prompt": "Hi"}, "/api/chat": {"messages": HI}}
BOTH = pytest.mark.parametrize("path", sorted(BODIES))


def asked(engine: ScriptedEngine, path: str, **fields: Any) -> Any:
    return ask(make_app(engine), "POST", path, json={"model": "any", **BODIES.get(path, {}), **fields})


def whole(engine: ScriptedEngine, path: str, **fields: Any) -> dict[str, Any]:
    response = asked(engine, path, stream=False, **fields)
    assert response.status_code == 200, response.text
    return dict(response.json())


def said(reply: dict[str, Any]) -> str:
    return str(reply["message"]["content"] if "message" in reply else reply["response"])


def lines_of(text: str) -> list[dict[str, Any]]:
    """Return the objects, after checking that there is one on each line and nothing else."""
    assert text.endswith("\n")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def request_of(engine: ScriptedEngine, path: str = "/api/generate", **fields: Any) -> GenerationRequest:
    whole(engine, path, **fields)
    return engine.requests[-1]


def prompt_of(engine: ScriptedEngine, path: str = "/api/generate", **fields: Any) -> str:
    return engine.vocabulary.detokenize(request_of(engine, path, **fields).prompt.tokens)


# -- answers ----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_whole_answer_has_the_text_and_the_counts(path: str) -> None:
    reply = whole(ScriptedEngine(), path)
    assert said(reply) == "Hello world"
    assert (reply["model"], reply["done"], reply["done_reason"]) == ("any", True, "stop")
    assert (reply["eval_count"], reply["eval_duration"], reply["prompt_eval_duration"]) == (2, 250_000_000, 500_000_000)
    assert reply["prompt_eval_count"] > 2
    assert reply["total_duration"] >= reply["load_duration"] > 0
    assert datetime.fromisoformat(reply["created_at"].replace("Z", "+00:00")).tzinfo


@BOTH
@pytest.mark.parametrize("stream", [{}, {"stream": None}, {"stream": True}], ids=["absent", "null", "true"])
def test_a_streamed_answer_is_a_line_a_piece_and_a_last_one(path: str, stream: dict[str, Any]) -> None:
    response = asked(ScriptedEngine(["Hel", "", "lo \u2028"]), path, **stream)
    assert response.headers["content-type"] == "application/x-ndjson"
    *pieces, last = lines_of(response.text)
    assert [said(piece) for piece in pieces] == ["Hel", "lo \u2028"]
    assert not any(piece["done"] for piece in pieces)
    assert (said(last), last["done"], last["done_reason"], last["eval_count"]) == ("", True, "stop", 3)


def test_a_chats_pieces_come_from_the_assistant() -> None:
    assert [each["message"]["role"] for each in lines_of(asked(ScriptedEngine(), "/api/chat").text)] == [
        "assistant"
    ] * 3


@BOTH
def test_an_answer_that_is_cut_says_so(path: str) -> None:
    reply = whole(ScriptedEngine(), path, options={"num_predict": 1})
    assert (said(reply), reply["done_reason"]) == ("Hello", "length")


@BOTH
def test_a_failure_in_a_stream_is_its_last_line(path: str) -> None:
    engine = ScriptedEngine(["Hello"], error=EngineError("lost /home/someone/model.gguf"))
    first, last = lines_of(asked(engine, path).text)
    assert said(first) == "Hello"
    assert list(last) == ["error"]
    assert "/home" not in last["error"]


@BOTH
@pytest.mark.parametrize("is_streamed", [False, True])
def test_logprobs_come_with_their_tokens(path: str, is_streamed: bool) -> None:
    response = asked(ScriptedEngine(), path, logprobs=True, top_logprobs=2, stream=is_streamed)
    objects = lines_of(response.text) if is_streamed else [response.json()]
    tokens = [token for each in objects for token in each.get("logprobs", [])]
    assert [(token["token"], token["logprob"]) for token in tokens] == [
        ("Hello", -math.log(2)),
        (" world", -math.log(2)),
    ]
    assert [len(token["top_logprobs"]) for token in tokens] == [2, 2]


# -- what is asked ----------------------------------------------------------------------------------------------------


@BOTH
def test_options_reach_the_engine_and_those_for_loading_do_not_matter(path: str) -> None:
    options = {
        "num_predict": 7,
        "stop": ["x"],
        "seed": 3,
        "temperature": 0.5,
        "top_k": 9,
        "top_p": 0.6,
        "num_keep": 4,
        "repeat_penalty": 1.2,
        "mirostat": None,
        "num_ctx": 2048,
        "num_gpu": 1,
        "use_mmap": True,
        "tfs_z": 1.0,
    }
    request = request_of(ScriptedEngine(), path, options=options, keep_alive="5m")
    sampling = request.params.sampling
    assert (request.params.max_tokens, request.params.stop, request.params.n_keep) == (7, ("x",), 4)
    assert (sampling.seed, sampling.temperature, sampling.top_k, sampling.top_p) == (3, 0.5, 9, 0.6)
    assert sampling.repeat_penalty == 1.2


@BOTH
@pytest.mark.parametrize("num_predict", [-1, -2, None])
def test_no_limit_is_the_servers_own(path: str, num_predict: int | None) -> None:
    assert request_of(ScriptedEngine(), path, options={"num_predict": num_predict}).params.max_tokens is None


@BOTH
@pytest.mark.parametrize(
    ("wanted", "schema"),
    [("json", "{}"), ({"type": "integer"}, '{"type": "integer"}')],
)
def test_a_format_is_held_to(path: str, wanted: object, schema: str) -> None:
    engine = ScriptedEngine()
    assert request_of(engine, path, format=wanted).params.sampling.grammar == Grammar(GrammarKind.JSON_SCHEMA, schema)
    assert engine.prepared


@BOTH
def test_an_empty_format_is_none(path: str) -> None:
    assert request_of(ScriptedEngine(), path, format="").params.sampling.grammar is None


def test_a_prompt_is_what_the_user_says() -> None:
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_of(ScriptedEngine()) == prompt
    assert prompt_of(ScriptedEngine(), system="Be kind") == f"<|im_start|>system\nBe kind<|im_end|>\n{prompt}"


def test_a_raw_prompt_is_taken_as_it_is() -> None:
    assert prompt_of(ScriptedEngine(add_bos=True), raw=True) == "<s>Hi"


def test_a_context_is_gone_on_from() -> None:
    engine = ScriptedEngine(add_bos=True)
    first = whole(engine, "/api/generate")
    assert tuple(first["context"]) == (*engine.requests[-1].prompt.tokens, 0, 1)
    second = prompt_of(engine, context=first["context"])
    assert second.count("<s>") == 1
    assert engine.requests[-1].prompt.tokens[: len(first["context"])] == tuple(first["context"])
    streamed = lines_of(asked(ScriptedEngine(add_bos=True), "/api/generate").text)[-1]
    assert streamed["context"] == first["context"]
    assert "context" not in whole(engine, "/api/generate", raw=True)


def test_a_suffix_asks_for_what_comes_before_it() -> None:
    engine = ScriptedEngine()
    engine.vocabulary.fill_tokens = FillTokens(prefix=200, suffix=201, middle=202)
    request = request_of(engine, prompt="def", suffix="end")
    assert request.prompt.tokens == (200, *b"def", 201, *b"end", 202)


def test_a_chat_is_rendered_with_the_models_template() -> None:
    messages = [{"role": "system", "content": "S"}, *HI, {"role": "assistant", "content": "A"}, *HI]
    user = "<|im_start|>user\nHi<|im_end|>\n"
    assert prompt_of(ScriptedEngine(), "/api/chat", messages=messages) == (
        f"<|im_start|>system\nS<|im_end|>\n{user}<|im_start|>assistant\nA<|im_end|>\n{user}<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/api/generate", {"prompt": ""}), ("/api/chat", {"messages": []}), ("/api/chat", {"messages": None})],
)
@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), ("5m", "load"), (-1, "load"), (0, "unload")])
def test_a_request_for_nothing_is_about_memory(
    path: str, fields: dict[str, Any], keep_alive: object, reason: str
) -> None:
    engine = ScriptedEngine()
    reply = whole(engine, path, keep_alive=keep_alive, **fields)
    assert (said(reply), reply["done"], reply["done_reason"]) == ("", True, reason)
    assert not engine.requests


@pytest.mark.parametrize("keep_alive", ["0", "0s", "0h0m"])
def test_no_time_at_all_is_written_in_several_ways(keep_alive: str) -> None:
    assert whole(ScriptedEngine(), "/api/generate", prompt="", keep_alive=keep_alive)["done_reason"] == "unload"


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("/api/generate", {"template": "{{ .Prompt }}"}, "'template' can't be changed"),
        ("/api/generate", {"raw": True, "system": "S"}, "raw mode does not support 'system'"),
        ("/api/generate", {"raw": True, "context": [1]}, "raw mode does not support 'context'"),
        ("/api/generate", {"images": ["aGk="]}, "this model reads text only"),
        ("/api/generate", {"images": "aGk="}, "'images' must be a list of pictures"),
        ("/api/generate", {"context": ["x"]}, "'context' must be a list of token ids"),
        ("/api/generate", {"context": [9999]}, "token id"),
        ("/api/generate", {"prompt": 5}, "'prompt' must be a text"),
        ("/api/generate", {"format": "xml"}, "'format' must be 'json' or a JSON schema"),
        ("/api/generate", {"keep_alive": "soon"}, "'keep_alive' must be a duration"),
        ("/api/generate", {"keep_alive": True}, "'keep_alive' must be a duration"),
        ("/api/generate", {"options": []}, "'options' must be an object"),
        ("/api/generate", {"options": {"top_k": "x"}}, "'top_k' must be a whole number"),
        ("/api/generate", {"think": True}, "'any' does not support thinking"),
        ("/api/chat", {"think": "high"}, "'any' does not support thinking"),
        ("/api/generate", {"stream": 1}, "'stream' must be true or false"),
        ("/api/chat", {"messages": "x"}, "'messages' must be a list"),
        ("/api/chat", {"messages": [5]}, "'messages[0]' must be an object"),
        ("/api/chat", {"messages": [{"role": "x"}]}, "'messages[0].role' must be one of"),
        ("/api/chat", {"messages": [{"role": "user", "content": []}]}, "'messages[0].content' must be a text"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["x"]}]}, "'messages[0].images[0]' is no base64"),
        ("/api/embed", {"input": 5}, "'input' must be a text"),
        ("/api/embed", {"input": ["x"] * 2049}, "'input' must be at most 2,048 texts"),
        ("/api/embed", {"input": "x" * 65, "truncate": False}, "may have 64"),
        ("/api/embeddings", {"prompt": []}, "'prompt' must be a text"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:40],
)
def test_what_can_not_be_done_is_told_in_one_text(path: str, fields: dict[str, Any], words: str) -> None:
    response = asked(ScriptedEngine(), path, **fields)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert words in response.json()["error"]


def test_a_suffix_needs_a_model_that_fills_gaps() -> None:
    response = asked(ScriptedEngine(), "/api/generate", suffix="end")
    assert (response.status_code, list(response.json())) == (501, ["error"])


# -- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("texts", "count"), [("abc", 1), (["abc", "d"], 2), ("", 0), ([], 0)])
def test_every_text_gets_a_vector_of_length_one(texts: object, count: int) -> None:
    reply = whole(ScriptedEngine(), "/api/embed", input=texts)
    assert [math.hypot(*vector) for vector in reply["embeddings"]] == pytest.approx([1.0] * count)
    assert reply["prompt_eval_count"] == len("".join(texts))  # type: ignore[arg-type]
    assert reply["total_duration"] > 0


def test_a_vector_can_be_shorter() -> None:
    (vector,) = whole(ScriptedEngine(), "/api/embed", input="abc", dimensions=2)["embeddings"]
    assert (len(vector), math.hypot(*vector)) == (2, pytest.approx(1.0))


def test_a_text_that_is_too_long_is_cut_unless_it_may_not_be() -> None:
    engine = ScriptedEngine()
    assert whole(engine, "/api/embed", input="x" * 65)["prompt_eval_count"] == engine.max_text_tokens


def test_the_older_endpoint_gives_one_vector_as_it_is() -> None:
    assert whole(ScriptedEngine(), "/api/embeddings", prompt="ab") == {"embedding": [2.0, 97.0 + 98.0] + [0.0] * 6}
    assert whole(ScriptedEngine(), "/api/embeddings", prompt="") == {"embedding": []}


def test_a_model_that_ranks_has_no_vectors() -> None:
    engine = ScriptedEngine()
    engine.pooling = Pooling.RANK
    response = asked(engine, "/api/embed", input="x")
    assert (response.status_code, list(response.json())) == (400, ["error"])
