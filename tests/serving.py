"""Ways for a test to talk to the application: in this process, or over a real loopback port."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from runtime.engine.interface import AnyEngine
from runtime.engine.values.request import GenerationParams
from runtime.server.app import create_app
from runtime.server.door.security import Access
from runtime.server.lifecycle import Lifecycle
from runtime.server.page.page import Page
from runtime.server.service import Service

TIMEOUT_SECONDS = 10.0


def make_app(
    engine: AnyEngine | None,
    *,
    lifecycle: Lifecycle | None = None,
    access: Access | None = None,
    default_max_tokens: int | None = None,
    webclient: Path | None = Path("there-is-no-page"),
    **changes: Any,
) -> Starlette:
    """Return the application with `engine` ready, or loading when it is None.

    `changes` are fields of the service or, where there is a `webclient`, of the page.
    """
    lifecycle = lifecycle or Lifecycle()
    if engine is not None:
        lifecycle.set_ready(engine)
    if "model_alias" in changes:
        changes["names"] = (changes.pop("model_alias"),)
    page = {each.name: changes.pop(each.name) for each in fields(Page) if each.name in changes}
    defaults = GenerationParams(max_tokens=default_max_tokens)
    options: dict[str, Any] = {"names": ("scripted",), "props": {"build_info": "test"}, "defaults": defaults}
    service = Service(lifecycle=lifecycle, **{**options, **changes})
    return create_app(service, access or Access(), Page(webclient=webclient, **page) if webclient else None)


def ask(app: Starlette, method: str, path: str, **request: Any) -> httpx.Response:
    """Send one request in this process and return the whole response."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.wait_for(client.request(method, path, **request), TIMEOUT_SECONDS)

    return asyncio.run(send())


@contextlib.asynccontextmanager
async def listening(app: Starlette, http: Any = "h11") -> Any:
    """Serve on a loopback port from this event loop; yields the address."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        server = _server(app, http)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.wait_for(serving, TIMEOUT_SECONDS)


@contextlib.contextmanager
def serving_from_a_thread(app: ASGIApp, http: Any = "h11") -> Iterator[str]:
    """Serve on a loopback port for clients that block; yields the address."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()  # a connection that comes before uvicorn is up waits in the backlog
    server = _server(app, http)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(TIMEOUT_SECONDS)
        bound.close()
        assert not thread.is_alive()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, http: Any = "h11") -> uvicorn.Server:
    return _Server(uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None, timeout_keep_alive=3600))


def named_events_of(stream: str) -> list[tuple[str | None, str]]:
    """Return the name, where it has one, and the data of each event."""
    assert stream.endswith("\n\n"), stream[-50:]
    events: list[tuple[str | None, str]] = []
    for frame in stream.removesuffix("\n\n").split("\n\n"):
        *name, data = frame.split("\n")
        events.append((name[0].removeprefix("event: ") if name else None, data.removeprefix("data: ")))
    return events


def events_of(stream: str) -> list[str]:
    """Return the data of each event, after checking that there is nothing else in the stream."""
    assert stream.endswith("\n\n"), stream[-50:]
    frames = stream.removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames), frames
    return [frame.removeprefix("data: ") for frame in frames]
