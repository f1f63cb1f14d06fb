import json
from datetime import datetime
from typing import Any

import pytest

from runtime.engine.values.facts import FillTokens
from runtime.server.lifecycle import Lifecycle
from runtime.server.service import ModelFile
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

FILE = ModelFile(size_bytes=3_000, modified=1_700_000_000.5, sha256="ab" * 32)


def asked(method: str, path: str, body: object = None, **changes: Any) -> Any:
    app = make_app(changes.pop("engine", ScriptedEngine()), **{"model_file": FILE, **changes})
    return ask(app, method, path, **({} if body is None else {"json": body}))


def test_the_one_model_is_listed_with_a_tag() -> None:
    (model,) = asked("GET", "/api/tags").json()["models"]
    assert (model["name"], model["model"]) == ("scripted:latest", "scripted:latest")
    assert (model["size"], model["digest"]) == (3_000, "ab" * 32)
    assert datetime.fromisoformat(model["modified_at"].replace("Z", "+00:00")).timestamp() == FILE.modified
    assert model["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "script",
        "families": ["script"],
        "parameter_size": "1K",
        "quantization_level": "Q4_K_M",
    }


def test_a_model_that_nobody_has_hashed_has_a_digest_of_its_own() -> None:
    digests = {
        asked("GET", "/api/tags", model_file=ModelFile(size_bytes=size)).json()["models"][0]["digest"]
        for size in (1, 1, 2)
    }
    assert [len(digest) for digest in digests] == [64, 64]


def test_a_name_with_a_tag_stays_as_it_is() -> None:
    assert asked("GET", "/api/tags", model_alias="smol:135m").json()["models"][0]["name"] == "smol:135m"


def test_what_is_in_memory_is_the_model_once_it_is_loaded() -> None:
    (model,) = asked("GET", "/api/ps").json()["models"]
    assert (model["name"], model["context_length"], model["size_vram"]) == ("scripted:latest", 4096, 0)
    loading = make_app(None, lifecycle=Lifecycle())
    assert ask(loading, "GET", "/api/ps").json() == {"models": []}
    assert "version" in ask(loading, "GET", "/api/version").json()


@pytest.mark.parametrize("body", [{"model": "scripted"}, {"name": "Scripted:latest"}, {"model": "scripted:latest"}])
def test_show_knows_the_model_by_its_names(body: dict[str, str]) -> None:
    shown = asked("POST", "/api/show", body).json()
    assert shown["model_info"] == {
        "general.architecture": "script",
        "general.file_type": 15,
        "general.license": "apache-2.0",
        "general.name": "scripted",
        "general.parameter_count": 1000,
        "general.size_label": "135",
        "script.block_count": 30,
        "script.context_length": 8192,
        "script.rope.freq_base": 100000.0,
        "tokenizer.ggml.add_bos_token": False,
    }
    assert "completion" in shown["capabilities"]
    assert "insert" not in shown["capabilities"]
    assert "num_ctx" in shown["parameters"]


def test_a_model_that_fills_gaps_can_insert() -> None:
    engine = ScriptedEngine()
    engine.vocabulary.fill_tokens = FillTokens(1, 2, 3)
    assert "insert" in asked("POST", "/api/show", {"model": "scripted"}, engine=engine).json()["capabilities"]


@pytest.mark.parametrize("path", ["/api/show", "/api/pull"])
def test_other_models_are_not_here(path: str) -> None:
    response = asked("POST", path, {"model": "llama3"})
    assert response.status_code == 404
    assert response.json() == {"error": "model 'llama3' not found; the only one here is 'scripted:latest'"}
    assert asked("POST", path, {}).json() == {"error": "model is required"}


def test_pulling_the_model_is_done_at_once() -> None:
    streamed = asked("POST", "/api/pull", {"model": "scripted"})
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(each)["status"] for each in streamed.text.splitlines()][-1] == "success"
    assert asked("POST", "/api/pull", {"model": "scripted", "stream": False}).json() == {"status": "success"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("POST", "/api/push"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
    ],
)
def test_the_library_does_not_change(method: str, path: str) -> None:
    response = asked(method, path, {"model": "scripted"})
    assert response.status_code == 501
    assert list(response.json()) == ["error"]
    assert "one model" in response.json()["error"]


def test_there_are_no_blobs() -> None:
    assert asked("HEAD", "/api/blobs/sha256:00").status_code == 404


def test_the_root_answers_also_without_a_page() -> None:
    app = make_app(ScriptedEngine(), webclient=None)
    assert ask(app, "GET", "/").text == "Ollama is running"
    assert ask(app, "HEAD", "/").status_code == 200


@pytest.mark.parametrize("path", ["/api/version", "/api/tags"])
def test_a_head_is_answered(path: str) -> None:
    assert asked("HEAD", path).status_code == 200
