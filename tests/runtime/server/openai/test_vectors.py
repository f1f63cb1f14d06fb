import array
import base64
import math
from dataclasses import replace
from typing import Any

import pytest

from runtime.engine.values.facts import Pooling
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app


def post(path: str, body: dict[str, Any], engine: ScriptedEngine | None = None) -> Any:
    return ask(make_app(engine or ScriptedEngine()), "POST", path, json=body)


def unit(count: float, total: float) -> list[float]:
    norm = math.hypot(count, total)
    return [count / norm, total / norm] + [0.0] * 6


def test_openai_s_shape() -> None:
    reply = post("/v1/embeddings", {"input": ["ab", "c"], "model": "any"}).json()
    assert (reply["object"], reply["model"], reply["usage"]) == ("list", "any", {"prompt_tokens": 3, "total_tokens": 3})
    assert [(each["object"], each["index"]) for each in reply["data"]] == [("embedding", 0), ("embedding", 1)]
    assert reply["data"][0]["embedding"] == pytest.approx(unit(2, 97 + 98))


@pytest.mark.parametrize("value", ["ab", ["ab"], [97, 98], [[97, 98]]], ids=["text", "texts", "tokens", "token lists"])
def test_an_input_may_be_text_or_tokens_one_or_several(value: object) -> None:
    data = post("/v1/embeddings", {"input": value}).json()["data"]
    assert [each["embedding"] for each in data] == [pytest.approx(unit(2, 195))]


def test_base64_is_of_32_bit_floats() -> None:
    encoded = post("/v1/embeddings", {"input": "ab", "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert list(array.array("f", base64.b64decode(encoded))) == pytest.approx(unit(2, 195))


def test_fewer_dimensions_have_length_one_again() -> None:
    data = post("/v1/embeddings", {"input": "ab", "dimensions": 1}).json()["data"]
    assert data[0]["embedding"] == [1.0]


def test_llama_server_s_shape_has_a_list_of_vectors_for_each_text() -> None:
    reply = post("/embeddings", {"content": ["ab", "c"], "embd_normalize": -1}).json()
    assert [each["index"] for each in reply] == [0, 1]
    assert reply[1]["embedding"] == [[1.0, 99.0] + [0.0] * 6]


def test_openai_s_and_llamafile_s_shape_know_llama_server_s_norms_too() -> None:
    body = {"input": "ab", "embd_normalize": -1}
    assert post("/v1/embeddings", body).json()["data"][0]["embedding"] == [2.0, 195.0] + [0.0] * 6
    assert post("/embedding", body).json()["embedding"] == [2.0, 195.0] + [0.0] * 6


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings", "/embedding"])
def test_the_server_s_norm_holds_where_a_request_names_none(path: str) -> None:
    app = make_app(ScriptedEngine(), embd_normalize=1)
    assert "0.98984" in ask(app, "POST", path, json={"input": "ab"}).text  # 195 of 2 + 195
    assert "0.98984" not in ask(app, "POST", path, json={"input": "ab", "embd_normalize": 2}).text


@pytest.mark.parametrize("one", ["ab", [97, 98], [97, "b"]], ids=["text", "tokens", "tokens and text"])
def test_one_text_in_any_form_is_one_in_llamafile_s_shape(one: object) -> None:
    assert post("/embedding", {"content": one}).json() == {"embedding": pytest.approx(unit(2, 195))}


def test_llamafile_s_shape_is_flat_for_one_text_and_a_list_for_several() -> None:
    assert post("/embedding", {"content": "ab"}).json() == {"embedding": pytest.approx(unit(2, 195))}
    several = post("/embedding", {"content": ["ab", "c"]}).json()
    assert [each["embedding"] for each in several["results"]] == [
        pytest.approx(unit(2, 195)),
        pytest.approx(unit(1, 99)),
    ]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {}, "input"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": {"a": 1}}, "input"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ("/v1/embeddings", {"input": "a", "dimensions": 9}, "dimensions"),
        ("/v1/embeddings", {"input": ["a"] * 2049}, "input"),
        ("/embedding", {"content": 5}, "content"),
        ("/embedding", {"content": []}, "content"),
        ("/embeddings", {}, "input"),
        ("/embeddings", {"content": [""]}, "content"),
        ("/v1/embeddings", {"input": "a", "embd_normalize": "x"}, "embd_normalize"),
        ("/embeddings", {"input": "a", "embd_normalize": -2}, "embd_normalize"),
        ("/rerank", {"documents": ["a"]}, "query"),
        ("/rerank", {"query": "a"}, "documents"),
        ("/rerank", {"query": "a", "documents": []}, "documents"),
        ("/rerank", {"query": "a", "documents": "b"}, "documents"),
        ("/rerank", {"query": "a", "documents": ["b", {"txt": "b"}]}, "documents"),
        ("/rerank", {"query": "a", "texts": ["b", 5]}, "texts"),
    ],
)
def test_a_wrong_field_is_named(path: str, body: dict[str, Any], param: str) -> None:
    answer = post(path, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_without_pooling_openai_s_shape_is_refused() -> None:
    engine = ScriptedEngine()
    engine.pooling = Pooling.NONE
    answer = post("/v1/embeddings", {"input": "a"}, engine)
    assert answer.status_code == 400
    assert "--pooling none" in answer.json()["error"]["message"]


def test_an_error_of_the_engine_s_is_an_answer() -> None:
    answer = post("/v1/embeddings", {"input": "a"}, ScriptedEngine(error=RuntimeError("/a/path")))
    assert answer.status_code == 500
    assert "/a/path" not in answer.text


def ranking() -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.pooling = Pooling.RANK
    engine.can_rank = True
    return engine


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking"])
def test_the_best_documents_come_first(path: str) -> None:
    reply = post(path, {"query": "x", "documents": ["b", "aab", "ab"], "top_n": 2}, ranking()).json()
    assert reply["results"] == [{"index": 1, "relevance_score": 2.0}, {"index": 2, "relevance_score": 1.0}]
    assert reply["usage"]["prompt_tokens"] == 3 + 5 + 4


def test_who_sends_texts_gets_the_other_shape() -> None:
    body = {"query": "x", "texts": ["b", "ab"], "return_text": True}
    assert post("/rerank", body, ranking()).json() == [
        {"index": 1, "score": 1.0, "text": "ab"},
        {"index": 0, "score": 0.0, "text": "b"},
    ]


def test_documents_may_be_objects_and_come_back() -> None:
    body = {"query": "x", "documents": ["b", {"text": "ab"}], "return_documents": True, "top_n": 1}
    reply = post("/rerank", body, ranking()).json()
    assert reply["results"] == [{"index": 1, "relevance_score": 1.0, "document": {"text": "ab"}}]


def test_a_template_is_filled_in_with_the_texts_as_they_are() -> None:
    engine = ranking()
    engine.info = replace(engine.info, rerank_template="{query}|{document}")
    # "a" counts as the score: none comes in by the query's own braces.
    reply = post("/rerank", {"query": "{document}", "documents": ["aaa"]}, engine).json()
    assert reply["results"] == [{"index": 0, "relevance_score": 3.0}]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings", "/embedding"])
def test_a_model_that_ranks_gives_no_vectors_and_says_where_to_ask(path: str) -> None:
    answer = post(path, {"input": "a"}, ranking())
    assert answer.status_code == 400
    assert "/rerank" in answer.json()["error"]["message"]


@pytest.mark.parametrize("is_claimed", [False, True], ids=["never was", "by its pooling alone"])
def test_a_model_that_can_not_rank_says_so(is_claimed: bool) -> None:
    engine = ScriptedEngine()
    engine.pooling = Pooling.RANK if is_claimed else Pooling.MEAN
    answer = post("/rerank", {"query": "x", "documents": ["b"]}, engine)
    assert answer.status_code == 501
    assert "wasn't trained to rank" in answer.json()["error"]["message"]
