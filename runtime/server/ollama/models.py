"""Ollama's library of models, of which this server has one that stays: list, show, and refuse to change it.

Ollama's names end in a tag, `:latest` where none is given. The one name here is written with it in lists, because
clients look for `name` or for what begins with `name:`, and is understood with and without.
"""

import asyncio
import hashlib
import re
from datetime import datetime, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from runtime.chat.turn import profile_in
from runtime.checked import JsonObject
from runtime.engine.values.facts import ModelInfo
from runtime.engine.values.media import MediaKind
from runtime.errors import RequestError
from runtime.server.answering.responses import JsonResponse
from runtime.server.answering.streaming import line
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import Flag, Text, operation
from runtime.server.lifecycle import Ready
from runtime.server.refusals import NotFound, NotOffered
from runtime.server.service import Service

# Clients ask what they may use by version number. This is the release of Ollama whose API is spoken here.
API_VERSION = "0.12.11"
_TAG = ":latest"
_NEVER = "2318-03-10T00:00:00Z"  # the model stays for as long as the program runs; Ollama's own word for that
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_MAX_DIGITS = 300  # a text of more is no number that JSON's readers take
_GENERAL_NUMBERS = {"general.alignment", "general.file_type", "general.quantization_version"}
_MODEL = Text("model", "The model's name, with or without its tag.")
_NAME = Text("name", "Another name for model.")
_STREAM = Flag("stream", "Report each step, which is the default.")
_REFUSED = "this server holds one model and keeps it as it is"


class OllamaModels:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def heartbeat(self, _request: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    async def version(self, _request: Request) -> Response:
        return JsonResponse({"version": API_VERSION})

    async def tags(self, _request: Request) -> Response:
        info = (await self._service.engine()).info
        return JsonResponse({"models": [{**self._described(info), "modified_at": self._modified}]})

    async def ps(self, _request: Request) -> Response:
        """List what is in memory: nothing while the model loads."""
        state = self._service.lifecycle.state
        if not isinstance(state, Ready):
            return JsonResponse({"models": []})
        info = state.engine.info
        here = {"expires_at": _NEVER, "size_vram": 0, "context_length": info.n_ctx}
        return JsonResponse({"models": [{**self._described(info), **here}]})

    @operation("What the model is", _MODEL, _NAME)
    async def show(self, request: Request) -> Response:
        self._check_name(await read_body(request))
        engine = await self._service.engine()
        info, metadata = engine.info, engine.vocabulary.all_metadata()
        profile = await asyncio.to_thread(profile_in, engine)
        abilities = {
            "completion": info.is_causal,
            "insert": info.is_causal and engine.vocabulary.fill_tokens is not None,
            "embedding": info.pooling is not None,
            "vision": MediaKind.PICTURE in info.media_kinds,
            "tools": info.is_causal and profile.can_call,
            "thinking": info.is_causal and profile.marks.is_known,
        }
        return JsonResponse(
            {
                "license": metadata.get("general.license", ""),
                "modelfile": f"FROM {self._name}\n",
                "parameters": f"{'num_ctx':<30} {info.n_ctx}",
                "template": info.chat_template or "",
                "details": _details(info),
                "model_info": _model_info(info, metadata),
                "capabilities": [name for name, is_there in abilities.items() if is_there],
                "modified_at": self._modified,
            }
        )

    @operation("Get the model, which is here", _MODEL, _NAME, _STREAM)
    async def pull(self, request: Request) -> Response:
        """Say that the model is here, which is what pulling is for."""
        body = await read_body(request)
        self._check_name(body)
        if not _STREAM.value_in(body, True):
            return JsonResponse({"status": "success"})
        steps = ("pulling manifest", "verifying sha256 digest", "writing manifest", "success")
        lines = b"".join(line({"status": step}) for step in steps)
        return Response(lines, media_type="application/x-ndjson")

    async def refuse(self, _request: Request) -> Response:
        raise NotOffered(f"{_REFUSED}: models can't be created, copied, pushed or deleted here")

    async def blob(self, request: Request) -> Response:
        raise NotFound(f"blob {request.path_params['digest'][:80]!r} not found; {_REFUSED}")

    @property
    def _name(self) -> str:
        alias = self._service.model_alias
        return alias if ":" in alias else alias + _TAG

    @property
    def _modified(self) -> str:
        return timestamp(self._service.model_file.modified or self._service.created)

    def _check_name(self, body: JsonObject) -> None:
        """Raise NotFound unless the body names the model that is here. `name` is what `model` was called first."""
        wanted = _MODEL.value_in(body, "") or _NAME.value_in(body, "")
        if not wanted:
            raise RequestError("model is required", "model")
        if wanted.removesuffix(_TAG).lower() not in {name.removesuffix(_TAG).lower() for name in self._service.names}:
            raise NotFound(f"model '{wanted}' not found; the only one here is '{self._name}'", "model")

    def _described(self, info: ModelInfo) -> dict[str, Any]:
        file = self._service.model_file
        # Clients use it to tell models apart, so a file without a known hash gets one of its name, size and date.
        facts = f"{self._name} {file.size_bytes} {file.modified}"
        return {
            "name": self._name,
            "model": self._name,
            "size": file.size_bytes or info.size_bytes,
            "digest": file.sha256 or hashlib.sha256(facts.encode("utf-8", "replace")).hexdigest(),
            "details": _details(info),
        }


def timestamp(seconds: float) -> str:
    """Return seconds since 1970 as Ollama's clients read a time (RFC 3339)."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _details(info: ModelInfo) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": info.architecture,
        "families": [info.architecture],
        "parameter_size": _in_words(info.n_params),
        "quantization_level": info.quantization,
    }


def _model_info(info: ModelInfo, metadata: dict[str, str]) -> dict[str, Any]:
    """Return the metadata by its keys in the file. The template has a field of its own."""
    shown = {key: value for key, value in sorted(metadata.items()) if key != "tokenizer.chat_template"}
    return {**{key: _typed(key, value) for key, value in shown.items()}, "general.parameter_count": info.n_params}


def _typed(key: str, text: str) -> bool | int | float | str:
    """Return a metadata value in its type, which llama.cpp doesn't report: `general.` has names, the rest numbers."""
    if key.startswith("general.") and key not in _GENERAL_NUMBERS:
        return text
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return float(text) if "." in text else int(text)
    return text


def _in_words(count: int) -> str:
    """Return a number of parameters as Ollama writes it."""
    if count >= 10**9:
        return f"{count / 10**9:.1f}B".replace(".0B", "B")
    if count >= 10**6:
        return f"{count / 10**6:.2f}M".replace(".00M", "M")
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)
