import asyncio

import pytest

from runtime.errors import ModelError, Unavailable
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
