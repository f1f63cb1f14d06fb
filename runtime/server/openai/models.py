"""The list of models, of which there is one: OpenAI's and Anthropic's clients ask the same paths for it.

Each object has the keys that both schemas want, so no client has to say whose it is.
"""

from datetime import datetime, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.engine.values.media import MediaKind
from runtime.server.answering.responses import JsonResponse
from runtime.server.refusals import NotFound
from runtime.server.service import Service

_MODALITIES = {MediaKind.PICTURE: "image", MediaKind.SOUND: "audio"}  # as llama-server calls them


class Models:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list(self, _request: Request) -> Response:
        model = await self._model()
        page = {"has_more": False, "first_id": model["id"], "last_id": model["id"]}
        return JsonResponse({"object": "list", "data": [model], **page})

    async def one(self, request: Request) -> Response:
        wanted = request.path_params["id"]
        if wanted not in self._service.names:
            raise NotFound(f"there is no model '{wanted}' here; the only one is '{self._service.model_alias}'", "model")
        return JsonResponse(await self._model())

    async def _model(self) -> dict[str, Any]:
        info = (await self._service.engine()).info
        created = self._service.created
        return {
            "id": self._service.model_alias,
            "object": "model",
            "aliases": list(self._service.names),
            "tags": list(self._service.tags),
            "created": created,
            "owned_by": "holdall",
            "type": "model",
            "created_at": datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "display_name": info.name or self._service.model_alias,
            "max_input_tokens": info.n_ctx,
            "max_tokens": info.n_ctx,
            "capabilities": None,
            "architecture": {
                "input_modalities": ["text", *(_MODALITIES[kind] for kind in MediaKind if kind in info.media_kinds)],
                "output_modalities": ["text"],
            },
            "lifecycle": "active",
            "deprecated_at": None,
            "line": None,
            "meta": {
                "vocab_type": info.vocab_type,
                "n_vocab": info.n_vocab,
                "n_ctx_train": info.n_ctx_train,
                "n_embd": info.n_embd,
                "n_params": info.n_params,
                "size": info.size_bytes,
            },
        }
