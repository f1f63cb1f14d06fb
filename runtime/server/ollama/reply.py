"""Answers in Ollama's dialect: an object a line while they grow, and a last one with the counts; or that one alone.

Durations are nanoseconds. Clients divide counts by them, so they are never zero.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.chat.answer import AnswerEvent, ArgumentsPart, CallBegun, CallEnded, ReasoningPart, TextPart, arguments_in
from runtime.chat.messages import Message, Role, ToolCall
from runtime.chat.reader import AnswerReader
from runtime.engine.values.events import Finished, FinishReason, TextDelta, TokenProbs
from runtime.server.answering.errors import ollama_error
from runtime.server.answering.logprobs import tokens_json
from runtime.server.answering.replies import Reply
from runtime.server.answering.scored import Scored, ScoredReader
from runtime.server.answering.streaming import line
from runtime.server.ollama.models import timestamp
from runtime.server.ollama.params import OllamaParams


@dataclass(frozen=True, slots=True)
class _Piece:
    """What an object adds to the message, the probabilities that come with it, and, at the end, the counts."""

    message: Message
    probs: tuple[TokenProbs, ...]
    counts: Mapping[str, Any] = field(default_factory=dict)


class OllamaReply(Reply[_Piece]):
    """One answer. What differs between `/api/generate` and `/api/chat` is left to the subclasses."""

    def __init__(self, params: OllamaParams, clock: "Clock", reader: AnswerReader | None = None) -> None:
        self._params = params
        self._clock = clock
        self._reader = ScoredReader(reader or AnswerReader(None, None))
        self._unreported: tuple[TokenProbs, ...] = ()  # of marks, and of parts that aren't shown by themselves
        self._call: CallBegun | None = None  # that is being written
        self._arguments = ""
        self._pieces: list[_Piece] = []

    @property
    def is_streamed(self) -> bool:
        return self._params.is_streamed

    def _said(self, message: Message) -> dict[str, Any]:
        """Return the fields that hold a piece of the answer, or all of it."""
        raise NotImplementedError

    def _object(self, message: Message, **fields: Any) -> dict[str, Any]:
        head = {"model": self._params.model, "created_at": timestamp(time.time())}
        return {**head, **self._said(message), "done": False, **fields}

    def _logprobs(self, probs: tuple[TokenProbs, ...]) -> dict[str, Any]:
        num_top = self._params.num_top_logprobs
        return {} if num_top is None or not probs else {"logprobs": tokens_json(probs, num_top)}

    def take(self, delta: TextDelta) -> Iterable[_Piece]:
        return self._grow(self._reader.take(delta))

    def end(self, finished: Finished) -> Iterable[_Piece]:
        yield from self._grow(self._reader.end())
        yield self._grown(_answer(), self._end(finished))

    def _grow(self, parts: Iterable[Scored]) -> Iterator[_Piece]:
        for part in parts:
            self._unreported += part.probs
            message = self._shown(part.event)
            if message is not None:
                yield self._grown(message, {})

    def _grown(self, message: Message, counts: dict[str, Any]) -> _Piece:
        piece, self._unreported = _Piece(message, self._unreported, counts), ()
        self._pieces.append(piece)
        return piece

    def _shown(self, event: AnswerEvent | None) -> Message | None:
        """Return what an event adds to the message. A call is reported when it is complete."""
        match event:
            case TextPart(text):
                return _answer(text)
            case ReasoningPart(text) if self._params.thinking is not False:
                return _answer(reasoning=text)
            case CallBegun():
                self._call, self._arguments = event, ""
            case ArgumentsPart(_index, text):
                self._arguments += text
            case CallEnded() if self._call is not None:
                return _answer(tool_calls=(ToolCall(self._call.id, self._call.name, self._arguments),))
        return None

    def frames(self, event: _Piece) -> Iterable[bytes]:
        yield line(self._object(event.message, **self._logprobs(event.probs), **event.counts))

    def fail(self, error: Exception) -> Iterable[bytes]:
        yield line(ollama_error(error)[1])

    def whole(self) -> dict[str, Any]:
        messages = [piece.message for piece in self._pieces]
        message = _answer(
            "".join(each.text for each in messages),
            "".join(each.reasoning for each in messages),
            tuple(call for each in messages for call in each.tool_calls),
        )
        probs = tuple(each for piece in self._pieces for each in piece.probs)
        return self._object(message, **self._logprobs(probs), **self._pieces[-1].counts)

    def loaded(self) -> dict[str, Any]:
        """Return the answer to a request for nothing, which clients send to have the model loaded or unloaded."""
        return self._object(_answer(), done=True, done_reason="unload" if self._params.is_unloading else "load")

    def _end(self, finished: Finished) -> dict[str, Any]:
        timings = finished.timings
        return {
            "done": True,
            "done_reason": "length" if finished.reason is FinishReason.LENGTH else "stop",
            **self._clock.durations(),
            "prompt_eval_count": timings.num_cached_tokens + timings.num_prompt_tokens,
            "prompt_eval_duration": _nanoseconds(timings.prompt_seconds),
            "eval_count": timings.num_generated_tokens,
            "eval_duration": _nanoseconds(timings.generation_seconds),
        }


def _answer(text: str = "", reasoning: str = "", tool_calls: tuple[ToolCall, ...] = ()) -> Message:
    return Message(Role.ASSISTANT, text, reasoning, tool_calls)


class GenerateReply(OllamaReply):
    """Its last object holds the whole text as tokens, for a later prompt to go on from."""

    def __init__(
        self,
        params: OllamaParams,
        clock: "Clock",
        reader: AnswerReader | None = None,
        prompt_tokens: tuple[int, ...] | None = None,
    ) -> None:
        """`prompt_tokens` None: no tokens are reported."""
        super().__init__(params, clock, reader)
        self._tokens = None if prompt_tokens is None else list(prompt_tokens)

    def _said(self, message: Message) -> dict[str, Any]:
        return {"response": message.text, **_thinking(message)}

    def take(self, delta: TextDelta) -> Iterable[_Piece]:
        if self._tokens is not None:
            self._tokens += delta.tokens
        return super().take(delta)

    def _end(self, finished: Finished) -> dict[str, Any]:
        reported = {} if self._tokens is None else {"context": self._tokens}
        return {**super()._end(finished), **reported}


class ChatReply(OllamaReply):
    """Its calls are numbered over the whole answer."""

    _num_calls = 0

    def _said(self, message: Message) -> dict[str, Any]:
        said = {"role": "assistant", "content": message.text, **_thinking(message)}
        if message.tool_calls:
            said["tool_calls"] = [
                _call_json(self._num_calls + index, call) for index, call in enumerate(message.tool_calls)
            ]
            self._num_calls += len(message.tool_calls)
        return {"message": said}


def _thinking(message: Message) -> dict[str, Any]:
    return {"thinking": message.reasoning} if message.reasoning else {}


def _call_json(index: int, call: ToolCall) -> dict[str, Any]:
    function = {"index": index, "name": call.name, "arguments": arguments_in(call.arguments)}
    return {"id": call.id, "function": function}


class Clock:
    """How long a request has been here, and how long of that it waited for the model to be loaded."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._load_seconds = 0.0

    def model_is_there(self) -> None:
        self._load_seconds = time.monotonic() - self._started

    def durations(self) -> dict[str, int]:
        total_seconds = time.monotonic() - self._started
        return {"total_duration": _nanoseconds(total_seconds), "load_duration": _nanoseconds(self._load_seconds)}


def _nanoseconds(seconds: float) -> int:
    return max(round(seconds * 1e9), 1)
