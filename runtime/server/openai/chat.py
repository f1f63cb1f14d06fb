"""OpenAI's chat completions: the assistant's next message, with the tools it calls and what it thought before.

`reasoning_content` is llama-server's and DeepSeek's name for the thinking. An answer to a request with `functions`
instead of `tools` calls by `function_call`, of which there is one.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.answer import AnswerEvent, ArgumentsPart, CallBegun, ReasoningPart, TextPart, whole_message
from runtime.chat.turn import Turn
from runtime.checked import JsonObject
from runtime.engine.interface import AnyEngine
from runtime.engine.values.events import Finished, Progress, TextDelta, Timings, TokenProbs
from runtime.engine.values.request import GenerationRequest
from runtime.errors import RequestError
from runtime.server.answering.generation import Generation
from runtime.server.answering.logprobs import tokens_json
from runtime.server.answering.preparing import turn_for
from runtime.server.answering.responses import JsonResponse, respond
from runtime.server.answering.scored import Scored, ScoredReader
from runtime.server.answering.settings import generation_settings
from runtime.server.answering.streaming import TextFrame, frame
from runtime.server.asking.body import Body, read_body
from runtime.server.asking.conversation import CONVERSATION_FIELDS, MESSAGES, has_functions, read_conversation
from runtime.server.asking.fields import operation
from runtime.server.openai.params import COMMON_FIELDS, CommonParams
from runtime.server.openai.reply import ChoiceReply, Envelope, finish_reason
from runtime.server.service import Service

# Not done here; beside each, the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {"modalities": (["text"],), "audio": (), "web_search_options": ()}


@dataclass(frozen=True, slots=True)
class _Piece:
    """An event of the answer, and how likely the tokens of its text were, if it is the answer's own text."""

    event: AnswerEvent
    probs: tuple[TokenProbs, ...]
    timings: Timings | None


class ChatReply(ChoiceReply[_Piece]):
    def __init__(self, envelope: Envelope, index: int, num_choices: int, turn: Turn, *, has_functions: bool) -> None:
        super().__init__(envelope, index, num_choices)
        self._reader = ScoredReader(turn.reader())
        self._has_functions = has_functions
        self._text_frame = TextFrame(envelope.chunk([self._choice({"content": TextFrame.GAP})]))

    def open(self) -> Iterable[bytes]:
        first = {"role": "assistant", "content": None, "refusal": None}
        return (frame(self.envelope.chunk([self._choice(first)])),)

    def take(self, delta: TextDelta) -> Iterable[_Piece]:
        return self._grow(self._reader.take(delta), delta.timings)

    def end(self, finished: Finished) -> Iterable[_Piece | Progress | Finished]:
        yield from self._grow(self._reader.end(), None)
        yield finished

    def _grow(self, parts: Iterable[Scored], timings: Timings | None) -> Iterator[_Piece]:
        for part in parts:
            if part.event is not None:
                yield self._grown(_Piece(part.event, part.probs if isinstance(part.event, TextPart) else (), timings))

    def whole(self) -> dict[str, Any]:
        said = whole_message(piece.event for piece in self._pieces)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said.text or (None if said.tool_calls else ""),
            "refusal": None,
            "annotations": [],
        }
        if said.reasoning:
            message["reasoning_content"] = said.reasoning
        calls = [(call.id, {"name": call.name, "arguments": call.arguments}) for call in said.tool_calls]
        if calls and self._has_functions:
            message["function_call"] = calls[0][1]
        elif calls:
            message["tool_calls"] = [{"id": each, "type": "function", "function": called} for each, called in calls]
        return {
            "index": self.index,
            "message": message,
            "logprobs": self._logprobs([each for piece in self._pieces for each in piece.probs]),
            "finish_reason": self._finish_reason(),
        }

    def _piece_frames(self, piece: _Piece) -> Iterable[bytes]:
        has_probs = self.envelope.params.num_top_logprobs is not None
        if isinstance(piece.event, TextPart) and not has_probs and piece.timings is None:
            yield self._text_frame.with_text(piece.event.text)
        elif (delta := self._delta(piece.event)) is not None:
            choice = {**self._choice(delta), "logprobs": self._logprobs(piece.probs)}
            yield frame(self.envelope.chunk([choice], piece.timings))

    def _delta(self, event: AnswerEvent) -> dict[str, Any] | None:
        match event:
            case TextPart(text):
                return {"content": text}
            case ReasoningPart(text):
                return {"reasoning_content": text}
            case CallBegun(index, call_id, name) if not self._has_functions:
                called = {"name": name, "arguments": ""}
                return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": called}]}
            case ArgumentsPart(index, text) if not self._has_functions:
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
            case CallBegun(name=name):
                return {"function_call": {"name": name, "arguments": ""}}
            case ArgumentsPart(text=text):
                return {"function_call": {"arguments": text}}
            case _:
                return None

    def _last_choice(self) -> dict[str, Any]:
        return self._choice({}, self._finish_reason())

    def _empty_choice(self) -> dict[str, Any]:
        return self._choice({})

    def _choice(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def _finish_reason(self) -> str:
        reason = finish_reason(self.finished)
        if reason == "length" or not any(isinstance(piece.event, CallBegun) for piece in self._pieces):
            return reason
        return "function_call" if self._has_functions else "tool_calls"

    def _logprobs(self, probs: Sequence[TokenProbs]) -> dict[str, Any] | None:
        num_top = self.envelope.params.num_top_logprobs
        return None if num_top is None else {"content": tokens_json(probs, num_top), "refusal": None}


def _num_top_logprobs(body: JsonObject) -> int | None:
    num_top = body.integer("top_logprobs", None, low=0, high=20)
    if body.flag("logprobs", False):
        return num_top or 0
    if num_top:
        raise RequestError("'top_logprobs' needs 'logprobs' to be true", "top_logprobs")
    return None


class OpenAIChat:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("The assistant's next message", *CONVERSATION_FIELDS, *COMMON_FIELDS, required=(MESSAGES.name,))
    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        for name, harmless in _UNSUPPORTED.items():
            body.refuse(name, but=harmless)
        params = await body.read(CommonParams.of, self._service, _num_top_logprobs(body))
        engine = await self._service.engine()
        turn = await self._turn(request, body, engine, params)
        asked = turn.ask(params.generation)
        extras = await self._extras(body, params, engine, asked)
        generations = await Generation.begin_all(request, engine, params.choices(asked))
        envelope = Envelope(
            params,
            self._service.build_info,
            id_prefix="chatcmpl",
            whole_object="chat.completion",
            chunk_object="chat.completion.chunk",
            extras=extras,
        )
        replies = [
            ChatReply(envelope, index, len(generations), turn, has_functions=has_functions(body))
            for index in range(len(generations))
        ]
        parts = list(zip(generations, replies, strict=True))

        def whole() -> object:
            return envelope.whole([reply.whole() for reply in replies], [reply.finished for reply in replies])

        return await respond(request, parts, whole, is_streamed=params.is_streamed)

    @operation("How many tokens a chat completion's prompt has", *CONVERSATION_FIELDS, required=(MESSAGES.name,))
    async def count_tokens(self, request: Request) -> Response:
        body = await read_body(request)
        turn = await self._turn(request, body, await self._service.engine(), None)
        return JsonResponse({"object": "response.input_tokens", "input_tokens": len(turn.prompt.tokens)})

    async def _turn(self, request: Request, body: Body, engine: AnyEngine, params: CommonParams | None) -> Turn:
        conversation = await body.read(read_conversation, self._service.chat)
        form = params.generation.sampling.grammar if params else None
        return await turn_for(request, engine, conversation, form, size=body.num_bytes, is_counted=params is None)

    async def _extras(
        self, body: JsonObject, params: CommonParams, engine: AnyEngine, asked: GenerationRequest
    ) -> dict[str, Any]:
        """Return what llama-server adds when it is verbose: the prompt as its tokens read, and the settings."""
        if not body.flag("verbose", self._service.chat.shows_prompts):
            return {}
        settings = generation_settings(
            asked.params, is_streamed=params.is_streamed, speculation=engine.info.speculation
        )
        prompt = await asyncio.to_thread(engine.vocabulary.detokenize, asked.prompt.text_tokens)
        return {"__verbose": {"prompt": prompt, "generation_settings": settings}}
