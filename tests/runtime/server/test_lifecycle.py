import asyncio

import pytest

from runtime.errors import EngineError, ModelError, Unavailable
from runtime.server.lifecycle import Failed, Lifecycle, Loading, Ready, Stopping
from tests.fakes import ScriptedEngine
from tests.serving import TIMEOUT_SECONDS, ask, make_app


def test_an_early_request_waits_for_the_model() -> None:
    async def scenario() -> None:
        lifecycle, engine = Lifecycle(), ScriptedEngine()
        waiting = asyncio.create_task(lifecycle.engine())
        await asyncio.sleep(0)
        assert not waiting.done()
        lifecycle.set_ready(engine)
        assert await asyncio.wait_for(waiting, TIMEOUT_SECONDS) is engine

    asyncio.run(scenario())


def test_whoever_waits_hears_of_the_end() -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle()
        waiting = asyncio.create_task(lifecycle.engine())
        await asyncio.sleep(0)
        lifecycle.set_stopping()
        with pytest.raises(Unavailable, match="stopping"):
            await asyncio.wait_for(waiting, TIMEOUT_SECONDS)

    asyncio.run(scenario())


def test_states_only_go_forward() -> None:
    lifecycle = Lifecycle()
    lifecycle.set_progress(1.5)
    assert lifecycle.state == Loading(1.0)
    lifecycle.set_failed(ModelError("broken"))
    lifecycle.set_ready(ScriptedEngine())
    lifecycle.set_progress(0.5)
    assert isinstance(lifecycle.state, Failed)
    lifecycle.set_stopping()
    assert lifecycle.state == Stopping()


def test_health_tells_the_state() -> None:
    lifecycle = Lifecycle()
    app = make_app(None, lifecycle=lifecycle)
    lifecycle.set_progress(0.42)
    loading = ask(app, "GET", "/health")
    assert loading.status_code == 503
    assert loading.json() == {
        "error": {"code": 503, "message": "Loading model", "type": "unavailable_error"},
        "status": "loading model",
        "progress": 0.42,
    }
    lifecycle.set_ready(ScriptedEngine())
    assert isinstance(lifecycle.state, Ready)
    for path in ("/health", "/v1/health"):
        ready = ask(app, "GET", path)
        assert (ready.status_code, ready.json()) == (200, {"status": "ok"})


def test_a_failed_load_is_told_without_paths() -> None:
    lifecycle = Lifecycle()
    lifecycle.set_failed(ModelError("can't open /home/someone/model.gguf"))
    for path in ("/health", "/props", "/v1/models"):
        response = ask(make_app(None, lifecycle=lifecycle), "GET", path)
        assert response.status_code == 503
        assert response.json()["error"]["type"] == "unavailable_error"
        assert "/home" not in response.text


def test_an_engine_that_fails_for_good_is_told_to_everybody() -> None:
    lifecycle = Lifecycle()
    app = make_app(ScriptedEngine(), lifecycle=lifecycle)
    assert ask(app, "GET", "/health").status_code == 200
    lifecycle.set_failed(EngineError("the engine has stopped: ZeroDivisionError(); start the program again"))
    for path in ("/health", "/v1/health", "/props", "/v1/models", "/api/tags", "/slots"):
        response = ask(app, "GET", path)
        assert (path, response.status_code) == (path, 503)
        assert "the model has stopped" in response.text
        assert "ZeroDivision" not in response.text
    messages = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "model": "any", "input": "Hi"}
    for path in ("/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/responses", "/v1/embeddings", "/tokenize"):
        assert (path, ask(app, "POST", path, json=messages).status_code) == (path, 503)


def test_a_failure_after_the_end_changes_nothing() -> None:
    lifecycle = Lifecycle()
    lifecycle.set_stopping()
    lifecycle.set_failed(EngineError("late"))
    assert lifecycle.state == Stopping()
