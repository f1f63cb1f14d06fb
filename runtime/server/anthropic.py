"""Anthropic's dialect: messages, and counting the tokens of what a message would be asked with.

Shapes are those of Anthropic's schema with its nullable keys present. What would change an answer and isn't done is
refused by name; `model` may be any name, since there is one model.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from runtime.server.anthropic_answer import MessageReply
from runtime.server.anthropic_messages import MESSAGES, SYSTEM, read_conversation
from runtime.server.anthropic_params import ANSWER_FIELDS, AnthropicParams
from runtime.server.body import Body, read_body
from runtime.server.conversation import chat_tokens
from runtime.server.fields import operation
from runtime.server.generation import Generation, whole_answer
from runtime.server.responses import EventStream, JsonResponse
from runtime.server.service import Service

_REQUIRED = (MESSAGES.name,)


class Anthropic:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("The next message of a conversation, as Anthropic", SYSTEM, MESSAGES, *ANSWER_FIELDS, required=_REQUIRED)
    async def messages(self, request: Request) -> Response:
        body = await read_body(request)
        params = AnthropicParams.of(body, self._service)
        tokens = await self._tokens(body)
        engine = await self._service.engine()
        generation = await Generation.begin(engine, params.request(tokens))
        reply = MessageReply(params, len(tokens))
        if params.is_streamed:
            return EventStream(generation, reply)
        return JsonResponse(reply.whole(await whole_answer(request.receive, generation)))

    @operation("How many tokens a conversation has", SYSTEM, MESSAGES, required=_REQUIRED)
    async def count_tokens(self, request: Request) -> Response:
        return JsonResponse({"input_tokens": len(await self._tokens(await read_body(request)))})

    async def _tokens(self, body: Body) -> tuple[int, ...]:
        body.refuse("tools", but=([],))
        messages = read_conversation(body)
        engine = await self._service.engine()
        return await asyncio.to_thread(chat_tokens, engine, messages)
