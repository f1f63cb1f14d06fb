"""The routes, in one table."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from runtime.container import Manifest
from runtime.engine.values.request import GenerationParams
from runtime.engine.values.sampling import SamplingParams
from runtime.server.answering.errors import Endpoint, answering_errors, routing_error
from runtime.server.anthropic.endpoints import Anthropic
from runtime.server.asking.conversation import ChatDefaults
from runtime.server.door.security import Access, Door
from runtime.server.lifecycle import Lifecycle
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
from runtime.server.page.files import WEBCLIENT, page_endpoints
from runtime.server.page.history import History
from runtime.server.page.quit import Quit
from runtime.server.service import ModelFile, Offer, Service


def create_app(
    lifecycle: Lifecycle,
    defaults: SamplingParams,
    *,
    names: tuple[str, ...],
    default_max_tokens: int | None,
    props: Mapping[str, Any],
    tags: tuple[str, ...] = (),
    n_keep: int = 0,
    embd_normalize: int = 2,
    access: Access | None = None,
    offer: Offer | None = None,
    model_file: ModelFile | None = None,
    chat: ChatDefaults | None = None,
    webclient: Path | None = WEBCLIENT,
    manifest: Manifest | None = None,
    history: History | None = None,
    end_program: Callable[[], None] = lambda: None,
) -> Starlette:
    """Return the application. `default_max_tokens` None: an answer ends when the model ends it or the context is full.

    `props` are facts that `/props` adds to its own; its `build_info` names the program elsewhere too. Without a
    `webclient` there is no page; the health and the page's files need no key. `manifest` is that of the model's bundle;
    without a `history` no chats are kept.
    """
    service = Service(
        lifecycle=lifecycle,
        defaults=GenerationParams(sampling=defaults, max_tokens=default_max_tokens, n_keep=n_keep),
        names=names,
        props=props,
        tags=tags,
        embd_normalize=embd_normalize,
        offer=offer or Offer(),
        model_file=model_file or ModelFile(),
        chat=chat or ChatDefaults(),
    )
    llamacpp = LlamaCpp(service)
    status, slots, metrics = Status(service), Slots(service), Metrics(service)
    models, openai_chat, completions = Models(service), OpenAIChat(service), OpenAICompletions(service)
    responses = OpenAIResponses(service)
    anthropic = Anthropic(service)
    ollama, ollama_models = Ollama(service), OllamaModels(service)
    lora = Lora(service)
    embeddings, rerank = Embeddings(service), Rerank(service)
    # Clients of Ollama look at the root whether anybody is there.
    page = dict(page_endpoints(webclient)) if webclient else {"/": ollama_models.heartbeat}
    table: list[tuple[str, str, Endpoint]] = [
        ("POST", "/completion", llamacpp.completion),
        ("POST", "/completions", llamacpp.completion),
        ("POST", "/infill", llamacpp.infill),
        ("POST", "/apply-template", llamacpp.apply_template),
        ("POST", "/tokenize", llamacpp.tokenize),
        ("POST", "/detokenize", llamacpp.detokenize),
        ("GET", "/health", status.health),
        ("GET", "/v1/health", status.health),
        ("GET", "/props", status.props),
        ("POST", "/props", status.set_props),
        ("GET", "/slots", slots.list),
        ("POST", "/slots/{id}", slots.act),
        ("GET", "/metrics", metrics.read),
        ("POST", "/v1/chat/completions", openai_chat.create),
        ("POST", "/chat/completions", openai_chat.create),
        ("POST", "/v1/chat/completions/input_tokens", openai_chat.count_tokens),
        ("POST", "/chat/completions/input_tokens", openai_chat.count_tokens),
        ("POST", "/v1/completions", completions.create),
        ("POST", "/v1/responses", responses.create),
        ("POST", "/responses", responses.create),
        ("POST", "/v1/responses/input_tokens", responses.count_tokens),
        ("GET", "/v1/responses/{id}", responses.retrieve),
        ("DELETE", "/v1/responses/{id}", responses.delete),
        ("GET", "/v1/responses/{id}/input_items", responses.input_items),
        ("GET", "/v1/models", models.list),
        ("GET", "/models", models.list),
        ("GET", "/v1/models/{id:path}", models.one),
        ("GET", "/models/{id:path}", models.one),
        ("POST", "/v1/messages", anthropic.messages),
        ("POST", "/v1/messages/count_tokens", anthropic.count_tokens),
        ("POST", "/api/generate", ollama.generate),
        ("POST", "/api/chat", ollama.chat),
        ("POST", "/api/embed", ollama.embed),
        ("POST", "/api/embeddings", ollama.embeddings),
        ("GET", "/api/version", ollama_models.version),
        ("GET", "/api/tags", ollama_models.tags),
        ("GET", "/api/ps", ollama_models.ps),
        ("POST", "/api/show", ollama_models.show),
        ("POST", "/api/pull", ollama_models.pull),
        ("POST", "/api/create", ollama_models.refuse),
        ("POST", "/api/copy", ollama_models.refuse),
        ("POST", "/api/push", ollama_models.refuse),
        ("DELETE", "/api/delete", ollama_models.refuse),
        ("POST", "/api/blobs/{digest}", ollama_models.refuse),
        ("HEAD", "/api/blobs/{digest}", ollama_models.blob),
        ("GET", "/lora-adapters", lora.list),
        ("POST", "/lora-adapters", lora.set),
        ("POST", "/v1/embeddings", embeddings.openai),
        ("POST", "/embeddings", embeddings.llamacpp),
        ("POST", "/embedding", embeddings.llamafile),
        *(("POST", path, rerank.rank) for path in ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")),
    ]
    table += [
        ("GET", "/openapi.json", openapi_endpoint(table)),
        *(("GET", path, endpoint) for path, endpoint in page.items()),
    ]
    if webclient:
        table += [
            ("GET", "/page.json", PageFacts(service, manifest, history).read),
            ("POST", "/quit", Quit(end_program).quit),
            *chat_endpoints(history),
        ]
    routes = [Route(path, answering_errors(endpoint), methods=[method]) for method, path, endpoint in table]
    door = Middleware(Door, access=access or Access(), public_paths={"/health", "/v1/health", *page})
    app = Starlette(routes=routes, middleware=[door], exception_handlers={HTTPException: routing_error})
    app.router.redirect_slashes = False
    return app
