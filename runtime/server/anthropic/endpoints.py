"""Anthropic's dialect: messages, and counting the tokens of what a message would be asked with.

Shapes are those of Anthropic's schema with its nullable keys present. What would change an answer and isn't done is
refused by name; `model` may be any name, since there is one model.
"""

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.conversation import Conversation
from runtime.chat.messages import Role
from runtime.checked import JsonObject
from runtime.server.answering.generation import Generation
from runtime.server.answering.preparing import turn_for
from runtime.server.answering.responses import JsonResponse, respond
from runtime.server.anthropic.messages import MESSAGES, SYSTEM, read_messages
from runtime.server.anthropic.params import ANSWER_FIELDS, AnthropicParams, read_effort
from runtime.server.anthropic.reply import MessageReply
from runtime.server.anthropic.tools import TOOL_FIELDS, Thinking, read_thinking, read_tool_use
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import operation
from runtime.server.service import Service

_ASKED = (SYSTEM, MESSAGES, *TOOL_FIELDS)
_REQUIRED = (MESSAGES.name,)


class Anthropic:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("The next message of a conversation, as Anthropic", *_ASKED, *ANSWER_FIELDS, required=_REQUIRED)
    async def messages(self, request: Request) -> Response:
        body = await read_body(request)
        params = await body.read(AnthropicParams.of, self._service)
        thinking = read_thinking(body)
        conversation = await body.read(self._conversation, thinking)
        engine = await self._service.engine()
        turn = await turn_for(request, engine, conversation, params.generation.sampling.grammar, size=body.num_bytes)
        generation = await Generation.begin(request, engine, turn.ask(params.generation))
        reply = MessageReply(params.model, turn, thinking)
        return await respond(request, [(generation, reply)], reply.whole, is_streamed=params.is_streamed)

    @operation("How many tokens a conversation has", *_ASKED, required=_REQUIRED)
    async def count_tokens(self, request: Request) -> Response:
        body = await read_body(request)
        conversation = await body.read(self._conversation, read_thinking(body))
        engine = await self._service.engine()
        turn = await turn_for(request, engine, conversation, size=body.num_bytes, is_counted=True)
        return JsonResponse({"input_tokens": len(turn.prompt.tokens)})

    def _conversation(self, body: JsonObject, thinking: Thinking) -> Conversation:
        """Return what is asked; a last message of the assistant's is one that is begun."""
        messages = read_messages(body)
        last = messages[-1]
        return Conversation(
            messages,
            read_tool_use(body),
            thinking=thinking is not Thinking.HIDDEN,
            variables={**self._service.chat.variables, **read_effort(body)},
            parses_special=self._service.chat.parses_special,
            continues_last=len(messages) > 1 and last.role is Role.ASSISTANT and not last.tool_calls,
        )
