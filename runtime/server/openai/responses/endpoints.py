"""OpenAI's newer API: responses, which may go on from one another."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.messages import Message
from runtime.chat.shortening import shortened
from runtime.chat.turn import Turn, next_turn
from runtime.checked import JsonObject
from runtime.engine.interface import AnyEngine
from runtime.errors import PromptTooLong, RequestError
from runtime.nursery import Patience
from runtime.server.answering.generation import Generation
from runtime.server.answering.preparing import prepared
from runtime.server.answering.responses import JsonResponse, respond
from runtime.server.answering.streaming import to_json
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import operation
from runtime.server.openai.responses.items import Item, messages_of, read_items
from runtime.server.openai.responses.pages import AFTER, LIMIT, ORDER, Page
from runtime.server.openai.responses.params import FIELDS, INPUT, PREVIOUS, ResponseParams
from runtime.server.openai.responses.reply import ResponseReply
from runtime.server.openai.responses.store import ResponseStore, StoredResponse
from runtime.server.refusals import NotFound
from runtime.server.service import Service

_PROB_BYTES = 100
_CUT_OFF_CALL = ("function_call", "incomplete")


@dataclass(frozen=True, slots=True)
class _Input:
    """A request's new items, the messages of the whole conversation, and about how large it is."""

    items: tuple[Item, ...]
    messages: tuple[Message, ...]
    num_bytes: int


class OpenAIResponses:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = ResponseStore()

    @operation("Answer with items", *FIELDS, required=(INPUT.name,))
    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        params = await body.read(ResponseParams.of, self._service)
        asked = await body.read(self._read_input, body.num_bytes)
        engine = await self._service.engine()
        turn = await prepared(request, partial(_turn, engine, params, asked.messages), size=body.num_bytes)
        generation = await Generation.begin(request, engine, turn.ask(params.generation))
        reply = ResponseReply(params, turn.reader(), partial(self._keep, asked) if params.is_stored else None)
        return await respond(request, [(generation, reply)], reply.whole, is_streamed=params.is_streamed)

    def _read_input(self, body: JsonObject, num_bytes: int) -> _Input:
        items = tuple(read_items(body.raw(INPUT.name), self._store.find_item))
        messages = tuple(messages_of(items))
        previous_id = PREVIOUS.value_in(body, None)
        if previous_id is None:
            return _Input(items, messages, num_bytes)
        previous = self._store.get(previous_id)
        if previous is None:
            raise RequestError(
                f"there is no response '{previous_id}' here; send the conversation in 'input' instead", PREVIOUS.name
            )
        return _Input(items, (*previous.messages, *messages), previous.num_bytes + num_bytes)

    def _keep(self, asked: _Input, response: dict[str, Any]) -> None:
        # A call that was cut off can't be gone on from.
        output = [item for item in response["output"] if (item["type"], item["status"]) != _CUT_OFF_CALL]
        messages = (*asked.messages, *messages_of(output, "output"))
        num_bytes = asked.num_bytes + _num_bytes(response)
        self._store.put(StoredResponse(response, asked.items, messages, num_bytes))

    @operation("Count the tokens of an input", *FIELDS)
    async def count_tokens(self, request: Request) -> Response:
        body = await read_body(request)
        params = await body.read(ResponseParams.of, self._service)
        messages = (await body.read(self._read_input, body.num_bytes)).messages
        engine = await self._service.engine()
        work = partial(_turn, engine, params, messages, is_counted=True)
        turn = await prepared(request, work, size=body.num_bytes)
        return JsonResponse({"object": "response.input_tokens", "input_tokens": len(turn.prompt.tokens)})

    @operation("A response that is kept")
    async def retrieve(self, request: Request) -> Response:
        stored = self._found(request)
        if request.query_params.get("stream") == "true":
            raise RequestError("a response that is kept can't be streamed again; leave out 'stream'", "stream")
        return JsonResponse(stored.response)

    @operation("Forget a response")
    async def delete(self, request: Request) -> Response:
        stored = self._found(request)
        self._store.remove(stored.id)
        return JsonResponse({"id": stored.id, "object": "response", "deleted": True})

    @operation("The items of a kept response's request", LIMIT, ORDER, AFTER)
    async def input_items(self, request: Request) -> Response:
        page = Page.of(request.query_params)
        return JsonResponse(page.of_items(self._found(request).input_items))

    def _found(self, request: Request) -> StoredResponse:
        response_id = request.path_params["id"]
        stored = self._store.get(response_id)
        if stored is None:
            raise NotFound(f"there is no response '{response_id}' here; only the newest are kept", "response_id")
        return stored


def _num_bytes(response: Mapping[str, Any]) -> int:
    """Return about how large a response is, without writing it."""
    parts: list[Mapping[str, Any]] = [part for item in response["output"] for part in item.get("content", ())]
    num_probs: int = sum(len(part.get("logprobs", ())) for part in parts) * (1 + response["top_logprobs"])
    num_chars = sum(len(part["text"]) for part in parts)
    num_chars += sum(len(item.get("arguments", "")) for item in response["output"])
    return num_chars + _PROB_BYTES * num_probs + len(to_json({**response, "output": []}))


def _turn(
    engine: AnyEngine,
    params: ResponseParams,
    messages: tuple[Message, ...],
    *,
    patience: Patience,
    is_counted: bool = False,
) -> Turn:
    """Return the turn that a conversation asks for, less its oldest turns where they are too many and may go.

    Then a quarter of the context is for the output, or what it may take. `is_counted`: the prompt may be longer than
    the context. Blocks; call from a thread. Raises RequestError.
    """
    n_ctx = engine.info.n_ctx

    def turn_of(messages: tuple[Message, ...]) -> Turn:
        conversation, grammar = params.conversation(messages), params.generation.sampling.grammar
        is_any_length = is_counted and not params.is_shortened
        return next_turn(engine, conversation, grammar, is_counted=is_any_length, patience=patience)

    def fitting(messages: tuple[Message, ...], room: int) -> Turn | None:
        try:
            turn = turn_of(messages)
        except PromptTooLong:
            return None
        return turn if len(turn.prompt.tokens) + room < n_ctx else None

    if not params.is_shortened:
        return turn_of(messages)
    # A message takes a token at least, so more of them than that need no trying.
    if len(messages) < n_ctx and (whole := fitting(messages, 0)) is not None:
        return whole
    room = n_ctx // 4 if params.generation.max_tokens is None else min(params.generation.max_tokens, n_ctx // 4)
    return turn_of(shortened(messages, lambda end: fitting(end, room) is not None, most=n_ctx))
