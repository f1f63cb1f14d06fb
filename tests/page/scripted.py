"""A program with a scripted model behind the real page: what it says, how fast, what goes wrong is the test's choice.

The page's files, their headers and the kept chats are the real server's.
"""

import asyncio
import contextlib
import functools
import json
import math
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.engine.values.answer_settings import ANSWER_SETTINGS
from runtime.server.answering.errors import answering_errors
from runtime.server.door.security import Access, AccessMiddleware
from runtime.server.page.chats import chat_endpoints
from runtime.server.page.face import described
from runtime.server.page.files import WEBCLIENT, page_endpoints
from runtime.server.page.history import History
from runtime.store.documents import chat_to_json, read_chat
from runtime.store.store import ChatStore
from tests.serving import serving_from_a_thread

Json = dict[str, Any]

FACE: Json = {
    "name": "Marginalia",
    "description": "A patient reading companion, made for the town library.",
    "icon": None,
    "welcome": "What shall we read?",
    "suggestions": [
        "Explain photosynthesis to a child",
        "Compare tea and coffee in a table",
        "Write a haiku about rain",
    ],
    "has_history": True,
    "version": "0.2.0",
    "model": {
        "name": "scripted-1B-Instruct",
        "architecture": "llama",
        "size_bytes": 1_321_098_329,
        "n_params": 1_235_814_432,
        "quantization": "Q8_0",
        "n_ctx": 4096,
        "n_ctx_train": 131_072,
        "licence": "Apache-2.0",
        "origin": "https://example.org/scripted-1B",
    },
    "modalities": {"vision": False, "audio": False},
    "defaults": {"system": "", "temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0,
                 "max_tokens": -1, "seed": -1},
    "settings": [described(setting) for setting in ANSWER_SETTINGS],
}  # fmt: skip


@dataclass
class Answer:
    """What the model says next: pieces with a pause before each, and how it ends.

    After `waits_after` pieces it says no more until the test sets `may_go_on`.
    """

    text: str = "Hello from the model."
    reasoning: str = ""
    pause_seconds: float = 0.0
    finish_reason: str = "stop"
    breaks_off: bool = False
    error: tuple[int, Json] | None = None
    piece_length: int = 6
    tokens_per_piece: int = 1
    waits_after: int | None = None
    may_go_on: threading.Event = field(default_factory=threading.Event)


@dataclass
class Script:
    """The program's state, which a test reads and changes."""

    file: Path  # of the kept chats
    answers: list[Answer] = field(default_factory=list)  # used up one by one; then the default again
    face: Json = field(default_factory=lambda: json.loads(json.dumps(FACE)))
    health: Json | None = None  # the body of a 503
    requests: list[Json] = field(default_factory=list)  # bodies of what asked for text
    can_embed: bool = True
    keys: tuple[str, ...] = ()  # without one nobody is let in, if there are any
    has_quit: bool = False
    foreign_quits: int = 0

    def say(self, text: str, **how: Any) -> Answer:
        """Let the next answer be this one; return it."""
        answer = Answer(text, **how)
        self.answers.append(answer)
        return answer

    def keep(self, *messages: Json, title: str = "Kept", **fields: Any) -> str:
        """Put a chat among those kept; return its id."""
        chat_id = fields.pop("id", f"chat{len(self.chats)}")
        document = {"title": title, "messages": list(messages), **fields}
        self._store.put_chat(read_chat(document, chat_id, int(time.time() * 1000)))
        return str(chat_id)

    def forget(self, chat_id: str) -> None:
        """Delete a chat, as another window would."""
        self._store.delete_chat(chat_id)

    @property
    def chats(self) -> dict[str, Json]:
        """What is kept, as a second program of the same bundle sees it."""
        ids = self._store.ids()
        found = {chat_id: self._store.chat(chat_id) for chat_id in ids}
        return {chat_id: chat_to_json(chat) for chat_id, chat in found.items() if chat}

    @functools.cached_property
    def _store(self) -> ChatStore:
        return ChatStore(self.file)

    def close(self) -> None:
        self._store.close()


def message(id: str, role: str, content: str, parent: str | None = None, **fields: Any) -> Json:  # noqa: A002
    """A message as it is kept."""
    base = {"id": id, "parent": parent, "role": role, "content": content, "reasoning": "", "created": 1}
    return {**base, "stats": {}, "attachments": [], "is_partial": False, **fields}


class Program:
    """The endpoints."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def health(self, _request: Request) -> Response:
        body = self.script.health
        return JSONResponse({"status": "ok"} if body is None else body, 200 if body is None else 503)

    async def face(self, _request: Request) -> Response:
        return JSONResponse(self.script.face)

    async def chat_completions(self, request: Request) -> Response:
        self.script.requests.append(await request.json())
        answer = self.script.answers.pop(0) if self.script.answers else Answer()
        if answer.error:
            status, error = answer.error
            return JSONResponse({"error": error}, status)
        return StreamingResponse(_chat_stream(answer), media_type="text/event-stream")

    async def completion(self, request: Request) -> Response:
        body = await request.json()
        self.script.requests.append(body)
        answer = self.script.answers.pop(0) if self.script.answers else Answer(" and so it went on.")
        if answer.error:
            return JSONResponse({"error": answer.error[1]}, answer.error[0])
        return StreamingResponse(_completion_stream(answer), media_type="text/event-stream")

    async def tokenize(self, request: Request) -> Response:
        content = (await request.json())["content"]
        return JSONResponse({"tokens": list(range(len(re.findall(r"\w+|[^\w\s]", content))))})

    async def embeddings(self, request: Request) -> Response:
        if not self.script.can_embed:
            return JSONResponse({"error": {"message": "no embeddings here", "type": "not_supported_error"}}, 501)
        inputs = (await request.json())["input"]
        data = [{"index": index, "embedding": _vector(text)} for index, text in enumerate(inputs)]
        return JSONResponse({"object": "list", "data": data})

    async def quit(self, request: Request) -> Response:
        if request.headers.get("x-holdall") != "page":
            self.script.foreign_quits += 1
            return JSONResponse({"error": {"message": "only the page may quit"}}, 403)
        self.script.has_quit = True
        return JSONResponse({"quitting": True})


def scripted_app(script: Script, webclient: Path = WEBCLIENT) -> ASGIApp:
    """Return the program as an application."""
    program = Program(script)
    page = dict(page_endpoints(webclient))
    table = [
        ("GET", "/health", program.health),
        ("GET", "/page.json", program.face),
        ("POST", "/v1/chat/completions", program.chat_completions),
        ("POST", "/completion", program.completion),
        ("POST", "/tokenize", program.tokenize),
        ("POST", "/v1/embeddings", program.embeddings),
        ("POST", "/quit", program.quit),
        *chat_endpoints(History(lambda: ChatStore(script.file))),
        *(("GET", path, endpoint) for path, endpoint in page.items()),
    ]
    app = Starlette(
        routes=[Route(path, answering_errors(endpoint), methods=[method]) for method, path, endpoint in table]
    )

    async def behind_a_door(scope: Scope, receive: Receive, send: Send) -> None:
        await AccessMiddleware(app, Access(keys=script.keys), {"/health", *page})(scope, receive, send)

    return behind_a_door


def _pieces(text: str, length: int) -> Iterator[str]:
    return (text[start : start + length] for start in range(0, len(text), length))


async def _chat_stream(answer: Answer) -> AsyncIterator[str]:
    def chunk(delta: Json, finish_reason: str | None = None, **more: Any) -> str:
        body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}
        return f"data: {json.dumps(body)}\n\n"

    for key, text in (("reasoning_content", answer.reasoning), ("content", answer.text)):
        for index, piece in enumerate(_pieces(text, answer.piece_length)):
            while index == answer.waits_after and not answer.may_go_on.is_set():
                await asyncio.sleep(0.01)
            await asyncio.sleep(answer.pause_seconds)
            yield chunk({key: piece})
    if answer.breaks_off:
        return
    timings = {"predicted_n": max(1, len(answer.text) // answer.piece_length), "predicted_per_second": 41.5}
    yield chunk({}, answer.finish_reason, timings=timings)
    yield "data: [DONE]\n\n"


async def _completion_stream(answer: Answer) -> AsyncIterator[str]:
    for piece in re.findall(r"\s*\S+", answer.text):
        await asyncio.sleep(answer.pause_seconds)
        top = [{"token": piece, "logprob": math.log(0.62)}, {"token": " <b>other</b>", "logprob": math.log(0.2)}]
        probability = {"token": piece, "logprob": math.log(0.62), "top_logprobs": top}
        yield f"data: {json.dumps({'content': piece, 'stop': False, 'completion_probabilities': [probability]})}\n\n"
    yield f"data: {json.dumps({'content': '', 'stop': True})}\n\n"


def _vector(text: str) -> list[float]:
    """Words by the hundred: texts that share words are close."""
    vector = [0.01] * 100
    for word in re.findall(r"\w+", text.lower()):
        vector[hash(word) % 100] += 1.0
    return vector


@contextlib.contextmanager
def serving(script: Script, webclient: Path = WEBCLIENT) -> Iterator[str]:
    """Serve a script on a port of its own; yields the address."""
    with serving_from_a_thread(scripted_app(script, webclient)) as url:
        yield url
    script.close()
