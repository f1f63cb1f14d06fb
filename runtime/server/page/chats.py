"""The chats that the page keeps with us: list, search, read, write, export, import."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runtime.checked import wrong
from runtime.errors import HistoryError, UnreadableChat
from runtime.server.answering.errors import Endpoint
from runtime.server.answering.responses import JsonResponse, log_fault
from runtime.server.asking.body import read_body, read_bytes
from runtime.server.asking.parsing import IMPORT_LIMITS, parse_object
from runtime.server.page.guard import reading, writing
from runtime.server.page.history import History
from runtime.server.refusals import NotFound
from runtime.store import documents
from runtime.store.chat import Chat, now

MAX_IMPORT_BYTES = 128 << 20
_MAX_QUERY = 300


def chat_endpoints(history: History | None) -> Iterator[tuple[str, str, Endpoint]]:
    """Yield a method, a path and an endpoint for each; without a history there is nothing behind any of them."""
    chats = Chats(history) if history else None
    one, message = "/chats/{id}", "/chats/{id}/messages/{message_id}"
    yield "GET", "/chats", chats.summaries if chats else _not_kept
    yield "GET", "/chats/export", chats.export if chats else _not_kept
    yield "POST", "/chats/import", chats.import_document if chats else _not_kept
    yield "GET", one, chats.chat if chats else _not_kept
    yield "PUT", one, chats.put if chats else _not_kept
    yield "PATCH", one, chats.change if chats else _not_kept
    yield "DELETE", one, chats.delete if chats else _not_kept
    yield "PUT", message, chats.put_message if chats else _not_kept
    yield "DELETE", message, chats.delete_message if chats else _not_kept


async def _not_kept(_request: Request) -> Response:
    raise NotFound("no chats are kept here: the program was started with --no-history")


class Chats:
    """The endpoints."""

    def __init__(self, history: History) -> None:
        self._history = history

    @reading
    async def summaries(self, request: Request) -> Response:
        query = request.query_params.get("search", "")
        if len(query) > _MAX_QUERY:
            raise wrong("search", f"at most {_MAX_QUERY} characters long")
        found = await self._history.run(lambda store: store.summaries(query))
        is_search = bool(query.strip())
        return JsonResponse({"chats": [documents.summary_to_json(each, with_snippet=is_search) for each in found]})

    @reading
    async def chat(self, request: Request) -> Response:
        chat_id = _chat_id(request)
        chat = await self._history.run(lambda store: store.chat(chat_id))
        if chat is None:
            raise _no_chat(chat_id)
        return JsonResponse(documents.chat_to_json(chat))

    @writing
    async def put(self, request: Request) -> Response:
        chat_id = _chat_id(request)
        body = await read_body(request)
        chat = await body.read(lambda given: documents.read_chat(given.fields, chat_id, now()))
        await self._history.run(lambda store: store.put_chat(chat))
        return JsonResponse({"id": chat_id})

    @writing
    async def change(self, request: Request) -> Response:
        chat_id = _chat_id(request)
        body = await read_body(request)
        changes = await body.read(lambda given: documents.read_changes(given.fields))
        if not await self._history.run(lambda store: store.change_chat(chat_id, changes)):
            raise _no_chat(chat_id)
        return JsonResponse({"id": chat_id})

    @writing
    async def delete(self, request: Request) -> Response:
        chat_id = _chat_id(request)
        if not await self._history.run(lambda store: store.delete_chat(chat_id)):
            raise _no_chat(chat_id)
        return JsonResponse({"deleted": chat_id})

    @writing
    async def put_message(self, request: Request) -> Response:
        chat_id, message_id = _chat_id(request), _message_id(request)
        body = await read_body(request)
        message = await body.read(lambda given: documents.read_message(given.fields, message_id, now()))
        changes = documents.read_message_changes(body.fields)
        await self._history.run(lambda store: store.put_message(chat_id, message, changes))
        return JsonResponse({"id": message_id})

    @writing
    async def delete_message(self, request: Request) -> Response:
        chat_id, message_id = _chat_id(request), _message_id(request)
        if not await self._history.run(lambda store: store.delete_message(chat_id, message_id)):
            raise NotFound(f"the chat {chat_id!r} has no message {message_id!r}", "id")
        return JsonResponse({"deleted": message_id})

    @reading
    async def export(self, _request: Request) -> Response:
        ids = await self._history.run(lambda store: store.ids())
        headers = {"content-disposition": 'attachment; filename="chats.json"'}
        return StreamingResponse(self._document(ids), media_type="application/json", headers=headers)

    async def _document(self, ids: list[str]) -> AsyncIterator[bytes]:
        """Yield an export chat by chat, so that no more than one is in memory; what is wrong is its last member.

        The ids of chats that can't be read are in `left_out`; a file that fails half-way ends it with an `error`.
        """
        head = documents.to_json({"format": documents.FORMAT, "version": documents.VERSION, "chats": []})
        yield head.removesuffix("]}").encode()
        separator = b""
        left_out: list[str] = []
        tail = ""
        for chat_id in ids:
            try:
                chat = await self._history.run(lambda store, chat_id=chat_id: store.chat(chat_id))  # type: ignore[misc]
            except UnreadableChat:
                left_out.append(chat_id)
                continue
            except HistoryError as error:  # the status line is out
                log_fault(error)
                tail = f',"error":{documents.to_json(str(error))}'
                break
            if chat is not None:  # it may be deleted meanwhile
                yield separator + documents.to_json(documents.chat_to_json(chat)).encode()
                separator = b","
        if left_out:
            tail += f',"left_out":{documents.to_json(left_out)}'
        yield f"]{tail}}}".encode()

    @writing
    async def import_document(self, request: Request) -> Response:
        data = await read_bytes(request, MAX_IMPORT_BYTES)
        chats = await asyncio.to_thread(_read_document, data)
        count = await self._history.run(lambda store: store.import_chats(chats))
        return JsonResponse({"imported": count})


def _read_document(data: bytearray) -> list[Chat]:
    return documents.read_document(parse_object(data, IMPORT_LIMITS), now())


def _chat_id(request: Request) -> str:
    return documents.checked_chat_id(request.path_params["id"], "id")


def _message_id(request: Request) -> str:
    return documents.checked_id(request.path_params["message_id"], "message id")


def _no_chat(chat_id: str) -> NotFound:
    return NotFound(f"there is no chat {chat_id!r}", "id")
