"""The routes, in one table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from runtime.engine.sampling import SamplingParams
from runtime.server.errors import answering_errors, routing_error
from runtime.server.lifecycle import Lifecycle
from runtime.server.llamacpp import LlamaCpp
from runtime.server.openai import OpenAI
from runtime.server.pages import WEBCLIENT, page_endpoints
from runtime.server.service import Service


def create_app(
    lifecycle: Lifecycle,
    defaults: SamplingParams,
    *,
    model_alias: str,
    default_max_tokens: int | None,
    props: Mapping[str, Any],
    n_keep: int = 0,
    webclient: Path = WEBCLIENT,
) -> Starlette:
    """Return the application. `default_max_tokens` None: an answer ends when the model ends it or the context is full.

    `props` are facts that `/props` adds to its own; its `build_info` names the program elsewhere too.
    """
    service = Service(lifecycle, defaults, model_alias, default_max_tokens, props, n_keep)
    llamacpp = LlamaCpp(service)
    openai = OpenAI(service)
    table = [
        ("POST", "/completion", llamacpp.completion),
        ("POST", "/completions", llamacpp.completion),
        ("POST", "/tokenize", llamacpp.tokenize),
        ("POST", "/detokenize", llamacpp.detokenize),
        ("GET", "/health", llamacpp.health),
        ("GET", "/v1/health", llamacpp.health),
        ("GET", "/props", llamacpp.props),
        ("POST", "/v1/chat/completions", openai.chat_completions),
        ("POST", "/chat/completions", openai.chat_completions),
        ("POST", "/v1/completions", openai.completions),
        ("GET", "/v1/models", openai.models),
        ("GET", "/models", openai.models),
        ("GET", "/v1/models/{id:path}", openai.model),
        ("GET", "/models/{id:path}", openai.model),
        *(("GET", path, endpoint) for path, endpoint in page_endpoints(webclient)),
    ]
    routes = [Route(path, answering_errors(endpoint), methods=[method]) for method, path, endpoint in table]
    app = Starlette(routes=routes, exception_handlers={HTTPException: routing_error})
    app.router.redirect_slashes = False
    return app
