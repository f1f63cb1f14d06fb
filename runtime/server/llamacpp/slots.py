"""llama.cpp's `/slots`: what each slot does, and its KV cache: saved to a file, restored or erased."""

import re
import time
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from runtime.checked import JsonObject, wrong
from runtime.engine.interface import AnyEngine
from runtime.engine.values.commands import Command, EraseSlot, ListSlots, RestoreSlot, SaveSlot, SlotState
from runtime.engine.values.facts import ModelInfo
from runtime.errors import RequestError, Unavailable
from runtime.server.answering.awaited import Awaited
from runtime.server.answering.responses import JsonResponse
from runtime.server.answering.settings import generation_settings
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import Text, operation
from runtime.server.refusals import NotOffered
from runtime.server.service import Service

T = TypeVar("T")

# A plain name that every file system takes: no folder, no hidden file, nothing that Windows reserves.
_PLAIN_NAME = re.compile(r"[^./\\:*?\"<>|\x00-\x1f\x7f][^/\\:*?\"<>|\x00-\x1f\x7f]{0,199}")
_MAX_NAME_BYTES = 200
FILENAME = Text("filename", "The file's plain name, in the folder of --slot-save-path.")


class Slots:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("What each slot is doing")
    async def list(self, request: Request) -> Response:
        if not self._service.flags.has_slots:
            raise NotOffered("this server doesn't tell of its slots; start it with --slots")
        engine = await self._service.engine()
        states = await _ask(request, engine, ListSlots())
        if request.query_params.get("fail_on_no_slot") and all(state.work for state in states):
            raise Unavailable("no slot is idle; try again later")
        return JsonResponse([_slot_json(state, engine.info) for state in states])

    @operation("Save, restore or erase (?action=) a slot's KV cache", FILENAME)
    async def act(self, request: Request) -> Response:
        folder = self._service.flags.slot_folder
        if folder is None:
            raise NotOffered("this server saves no slots; start it with --slot-save-path FOLDER")
        action = request.query_params.get("action")
        if action not in ("save", "restore", "erase"):
            raise wrong("action", "save, restore or erase")
        engine = await self._service.engine()
        slot = _slot_index(request.path_params["id"], engine.info.num_slots)
        if action == "erase":
            return JsonResponse({"id_slot": slot, "n_erased": await _ask(request, engine, EraseSlot(slot))})
        name = _plain_name(await read_body(request))
        started = time.monotonic()
        if action == "save":
            saved = await _ask(request, engine, SaveSlot(slot, folder / name))
            reported = {"n_saved": saved.num_tokens, "n_written": saved.num_bytes}
        else:
            saved = await _ask(request, engine, RestoreSlot(slot, folder / name))
            reported = {"n_restored": saved.num_tokens, "n_read": saved.num_bytes}
        timings = {f"{action}_ms": (time.monotonic() - started) * 1000}
        return JsonResponse({"id_slot": slot, "filename": name, **reported, "timings": timings})


async def _ask(request: Request, engine: AnyEngine, command: Command[T]) -> T:
    """Return what came of a command. Raises the command's error, or ClientDisconnect."""
    answer = Awaited[T]()
    engine.command(command, answer.hear)
    return await answer.result(request.receive)


def _slot_index(text: str, num_slots: int) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) >= num_slots:
        raise RequestError(f"there is no slot {text[:20]!r}; they are 0 to {num_slots - 1}", "id_slot")
    return int(text)


def _plain_name(body: JsonObject) -> str:
    name = FILENAME.value_in(body, "")
    if not _PLAIN_NAME.fullmatch(name) or len(name.encode()) > _MAX_NAME_BYTES or Path(name).name != name:
        raise wrong(FILENAME.name, "a plain file name, without folders and not hidden")
    return name


def _slot_json(state: SlotState, info: ModelInfo) -> dict[str, Any]:
    reported: dict[str, Any] = {
        "id": state.index,
        "n_ctx": info.n_ctx,
        "speculative": info.speculation != "none",
        "is_processing": state.work is not None,
        "n_prompt_tokens": state.num_tokens,
    }
    if state.work is None:
        return reported
    work = state.work
    num_generated, max_tokens = work.timings.num_generated_tokens, work.request.params.max_tokens
    next_token = {
        "has_next_token": True,
        "has_new_line": work.has_new_line,
        "n_remain": -1 if max_tokens is None else max_tokens - num_generated,
        "n_decoded": num_generated,
    }
    return {
        **reported,
        "id_task": work.id,
        "n_prompt_tokens_processed": work.timings.num_prompt_tokens,
        "n_prompt_tokens_cache": work.timings.num_cached_tokens,
        "params": generation_settings(work.request.params, is_streamed=True, speculation=info.speculation),
        "next_token": [next_token],
    }
