"""llama.cpp's `/lora-adapters`: which there are, and at which scale a request gets them that doesn't say."""

from starlette.requests import Request
from starlette.responses import Response

from runtime.server.answering.responses import JsonResponse
from runtime.server.asking.body import read_list
from runtime.server.asking.fields import operation
from runtime.server.asking.sampling import parse_scales
from runtime.server.service import Service


class Lora:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("The LoRA adapters and their scales")
    async def list(self, _request: Request) -> Response:
        adapters = (await self._service.engine()).lora_adapters()
        return JsonResponse(
            [
                {
                    "id": index,
                    "path": adapter.name,
                    "scale": adapter.scale,
                    "task_name": adapter.task_name,
                    "prompt_prefix": adapter.prompt_prefix,
                }
                for index, adapter in enumerate(adapters)
            ]
        )

    @operation("Set the scales; an adapter that isn't named gets 0")
    async def set(self, request: Request) -> Response:
        scales = parse_scales(await read_list(request))
        (await self._service.engine()).set_lora_scales(scales)
        return JsonResponse({"success": True})
