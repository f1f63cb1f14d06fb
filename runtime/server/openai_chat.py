"""OpenAI's chat completions."""

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.messages import parse_messages
from runtime.engine.sequence import Finished, TextDelta, TokenProbs
from runtime.errors import RequestError
from runtime.server.body import Body, read_body
from runtime.server.conversation import chat_tokens
from runtime.server.generation import Answer, Generation
from runtime.server.logprobs import HeldProbs, tokens_json
from runtime.server.openai_params import CommonParams
from runtime.server.openai_reply import Envelope, Reply, finish_reason, respond
from runtime.server.service import Service
from runtime.server.streaming import TextFrame, frame

# Not built yet; beside each, the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}


class ChatReply(Reply):
    def __init__(self, envelope: Envelope, index: int, num_choices: int) -> None:
        super().__init__(envelope, index, num_choices)
        self._delta_frame = TextFrame(envelope.chunk([self._choice({"content": TextFrame.GAP})]))
        self._held_probs = HeldProbs()

    def open(self) -> Iterable[bytes]:
        first = {"role": "assistant", "content": "", "refusal": None}
        return (frame(self.envelope.chunk([self._choice(first)])),)

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        if self.envelope.params.num_top_logprobs is None:
            return (self._delta_frame.with_text(delta.text),) if delta.text else ()
        probs = self._held_probs.shown_with(delta)
        if not delta.text:
            return ()
        choice = {**self._choice({"content": delta.text}), "logprobs": self._logprobs(probs)}
        return (frame(self.envelope.chunk([choice])),)

    def whole_choice(self, answer: Answer) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text,
            "refusal": None,
            "annotations": [],
        }
        return {
            "index": self.index,
            "message": message,
            "logprobs": self._logprobs(answer.probs),
            "finish_reason": finish_reason(answer.finished),
        }

    def _last_choice(self, finished: Finished) -> dict[str, Any]:
        return self._choice({}, finish_reason(finished))

    def _choice(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def _logprobs(self, probs: tuple[TokenProbs, ...]) -> dict[str, Any] | None:
        num_top = self.envelope.params.num_top_logprobs
        return None if num_top is None else {"content": tokens_json(probs, num_top), "refusal": None}


def _num_top_logprobs(body: Body) -> int | None:
    num_top = body.optional_integer("top_logprobs", low=0, high=20)
    if body.flag("logprobs", False):
        return num_top or 0
    if num_top:
        raise RequestError("'top_logprobs' needs 'logprobs' to be true", "top_logprobs")
    return None


class OpenAIChat:
    """The endpoint."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        for name, harmless in _UNSUPPORTED.items():
            body.refuse(name, but=harmless)
        params = CommonParams.of(body, self._service, _num_top_logprobs(body))
        messages = parse_messages(body.raw("messages"))
        engine = await self._service.engine()
        tokens = await asyncio.to_thread(chat_tokens, engine, messages)
        generations = await Generation.begin_all(engine, list(params.choices(params.request(tokens))))
        envelope = Envelope(
            params,
            self._service.build_info,
            id_prefix="chatcmpl",
            whole_object="chat.completion",
            chunk_object="chat.completion.chunk",
        )
        num_choices = len(generations)
        return await respond(request, generations, [ChatReply(envelope, n, num_choices) for n in range(num_choices)])
