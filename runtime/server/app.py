"""The routes, in one table."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MethodType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.server.answering.errors import Endpoint, answering_errors, routing_error
from runtime.server.anthropic.endpoints import Anthropic
from runtime.server.door.room import BodyRoom
from runtime.server.door.security import Access, AccessMiddleware
from runtime.server.llamacpp.lora import Lora
from runtime.server.llamacpp.metrics import Metrics
from runtime.server.llamacpp.slots import Slots
from runtime.server.llamacpp.status import Status
from runtime.server.llamacpp.texts import LlamaCpp
from runtime.server.ollama.endpoints import Ollama
from runtime.server.ollama.models import OllamaModels
from runtime.server.openai.chat import OpenAIChat
from runtime.server.openai.completions import OpenAICompletions
from runtime.server.openai.models import Models
from runtime.server.openai.responses.endpoints import OpenAIResponses
from runtime.server.openai.vectors import Embeddings, Rerank
from runtime.server.openapi import openapi_endpoint
from runtime.server.page.chats import chat_endpoints
from runtime.server.page.face import PageFacts
from runtime.server.page.files import page_endpoints
from runtime.server.page.page import Page
from runtime.server.page.quit import Quit
from runtime.server.service import Service

Row = tuple[str, str, Endpoint]  # method, path, endpoint
Method = Callable[[Any, Request], Awaitable[Response]]

# By the class that answers: one object of each serves all of its rows.
_API: Mapping[Callable[[Service], object], Mapping[str, Method]] = {
    LlamaCpp: {
        "POST /completion": LlamaCpp.completion,
        "POST /completions": LlamaCpp.completion,
        "POST /infill": LlamaCpp.infill,
        "POST /apply-template": LlamaCpp.apply_template,
        "POST /tokenize": LlamaCpp.tokenize,
        "POST /detokenize": LlamaCpp.detokenize,
    },
    Status: {
        "GET /health": Status.health,
        "GET /v1/health": Status.health,
        "GET /props": Status.props,
        "POST /props": Status.set_props,
    },
    Slots: {"GET /slots": Slots.list, "POST /slots/{id}": Slots.act},
    Metrics: {"GET /metrics": Metrics.metrics},
    OpenAIChat: {
        "POST /v1/chat/completions": OpenAIChat.create,
        "POST /chat/completions": OpenAIChat.create,
        "POST /v1/chat/completions/input_tokens": OpenAIChat.count_tokens,
        "POST /chat/completions/input_tokens": OpenAIChat.count_tokens,
    },
    OpenAICompletions: {"POST /v1/completions": OpenAICompletions.create},
    OpenAIResponses: {
        "POST /v1/responses": OpenAIResponses.create,
        "POST /responses": OpenAIResponses.create,
        "POST /v1/responses/input_tokens": OpenAIResponses.count_tokens,
        "GET /v1/responses/{id}": OpenAIResponses.retrieve,
        "DELETE /v1/responses/{id}": OpenAIResponses.delete,
        "GET /v1/responses/{id}/input_items": OpenAIResponses.input_items,
    },
    Models: {
        "GET /v1/models": Models.list,
        "GET /models": Models.list,
        "GET /v1/models/{id:path}": Models.one,
        "GET /models/{id:path}": Models.one,
    },
    Anthropic: {"POST /v1/messages": Anthropic.messages, "POST /v1/messages/count_tokens": Anthropic.count_tokens},
    Ollama: {
        "POST /api/generate": Ollama.generate,
        "POST /api/chat": Ollama.chat,
        "POST /api/embed": Ollama.embed,
        "POST /api/embeddings": Ollama.embeddings,
    },
    OllamaModels: {
        "GET /api/version": OllamaModels.version,
        "GET /api/tags": OllamaModels.tags,
        "GET /api/ps": OllamaModels.ps,
        "POST /api/show": OllamaModels.show,
        "POST /api/pull": OllamaModels.pull,
        "POST /api/create": OllamaModels.refuse,
        "POST /api/copy": OllamaModels.refuse,
        "POST /api/push": OllamaModels.refuse,
        "DELETE /api/delete": OllamaModels.refuse,
        "POST /api/blobs/{digest}": OllamaModels.refuse,
        "HEAD /api/blobs/{digest}": OllamaModels.blob,
    },
    Lora: {"GET /lora-adapters": Lora.list, "POST /lora-adapters": Lora.set},
    Embeddings: {
        "POST /v1/embeddings": Embeddings.openai,
        "POST /embeddings": Embeddings.llamacpp,
        "POST /embedding": Embeddings.llamafile,
    },
    Rerank: {f"POST {path}": Rerank.rank for path in ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")},
}


def create_app(service: Service, access: Access, page: Page | None) -> Starlette:
    """Return the application; `page` None is a server without one. The health and the page's files need no key."""
    files = dict(page_endpoints(page.webclient)) if page else {}
    table = list(_api(service))
    table += [("GET", "/openapi.json", openapi_endpoint(table)), *(("GET", *each) for each in files.items())]
    # Ollama's clients GET / to see whether the server is up.
    table += _page(service, page) if page else [("GET", "/", OllamaModels(service).heartbeat)]
    routes = [Route(path, answering_errors(endpoint), methods=[method]) for method, path, endpoint in table]
    public_paths = {"/health", "/v1/health", *(files if page else ("/",))}
    door = Middleware(AccessMiddleware, access=access, public_paths=public_paths)
    app = Starlette(
        routes=routes, middleware=[door, Middleware(BodyRoom)], exception_handlers={HTTPException: routing_error}
    )
    app.router.redirect_slashes = False
    return app


def _api(service: Service) -> Iterator[Row]:
    for kind, rows in _API.items():
        endpoints = kind(service)
        for route, endpoint in rows.items():
            method, path = route.split(" ")
            yield method, path, MethodType(endpoint, endpoints)


def _page(service: Service, page: Page) -> Iterator[Row]:
    yield "GET", "/page.json", PageFacts(service, page.manifest, page.history).page_json
    yield "POST", "/quit", Quit(page.end_program).quit
    yield from chat_endpoints(page.history)
