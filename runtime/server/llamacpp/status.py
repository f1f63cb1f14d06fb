"""llama.cpp's `/health` and `/props`: how the server is and what it serves."""

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.template import CHATML
from runtime.checked import JsonObject
from runtime.engine.values.media import MARK, MediaKind
from runtime.errors import RequestError
from runtime.server.answering.responses import JsonResponse
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import operation
from runtime.server.lifecycle import Loading, Ready
from runtime.server.llamacpp.completion import CompletionParams
from runtime.server.refusals import NotOffered
from runtime.server.service import Service


class Status:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("Whether requests are computed: 200, or 503 with progress while the model loads")
    async def health(self, _request: Request) -> Response:
        state = self._service.lifecycle.state
        if isinstance(state, Ready):
            return JsonResponse({"status": "ok"})
        if isinstance(state, Loading):
            error = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
            return JsonResponse(
                {"error": error, "status": "loading model", "progress": state.progress}, status_code=503
            )
        await self._service.engine()  # raises why there is none
        raise AssertionError("a lifecycle that is over gave out an engine")

    @operation("The model, its context and the default settings")
    async def props(self, _request: Request) -> Response:
        engine = await self._service.engine()
        info, flags = engine.info, self._service.flags
        defaults = CompletionParams.of(JsonObject({"stream": True}), self._service)
        return JsonResponse(
            {
                "default_generation_settings": {
                    "id": 0,
                    "n_ctx": info.n_ctx,
                    "is_processing": engine.num_processing > 0,
                    "params": defaults.settings(defaults.generation, info),
                },
                "total_slots": info.num_slots,
                "model_alias": self._service.model_alias,
                "model_ftype": info.description,
                "modalities": {
                    "vision": MediaKind.PICTURE in info.media_kinds,
                    "video": False,
                    "audio": MediaKind.SOUND in info.media_kinds,
                },
                "media_marker": MARK,
                "endpoint_slots": flags.has_slots,
                "endpoint_props": flags.has_props,
                "endpoint_metrics": flags.has_metrics,
                "chat_template": info.chat_template or CHATML,
                "bos_token": info.bos_token,
                "eos_token": info.eos_token,
                "build_info": self._service.build_info,
                "is_sleeping": False,
                **self._service.props,
            }
        )

    @operation("Accepted for llama-server's clients; there is no property that can be changed")
    async def set_props(self, request: Request) -> Response:
        if not self._service.flags.has_props:
            raise NotOffered("this server's properties can't be changed; --props only accepts the request")
        body = await read_body(request)
        name = next(iter(body), None)
        if name is not None:
            raise RequestError(f"'{name[:100]}' is no property that can be changed; there is none", name[:100])
        return JsonResponse({"success": True})
