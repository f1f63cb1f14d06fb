"""Answers in Anthropic's dialect: a message of content blocks, whole or growing in named events.

A block is opened before its first piece and closed before the next block, so that a client always knows what it reads.
Of the tokens of a prompt those found in the cache are counted apart, which is known only at the end: the first event
counts all of them as computed, the last one has it right.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from runtime.chat.answer import AnswerEvent, ArgumentsPart, CallBegun, CallEnded, ReasoningPart, TextPart, whole_message
from runtime.chat.messages import ToolCall
from runtime.chat.turn import Turn
from runtime.engine.values.events import Finished, FinishReason, TextDelta, Timings
from runtime.server.answering.errors import anthropic_error
from runtime.server.answering.generation import Answer
from runtime.server.answering.streaming import named_frame
from runtime.server.anthropic.tools import Thinking

_STOP_REASONS = {
    FinishReason.END_OF_TEXT: "end_turn",
    FinishReason.STOP_STRING: "stop_sequence",
    FinishReason.LENGTH: "max_tokens",
}


class MessageReply:
    """One message."""

    def __init__(self, model: str, turn: Turn, thinking: Thinking) -> None:
        self._id = f"msg_{secrets.token_hex(12)}"
        self._model = model
        self._num_prompt_tokens = len(turn.prompt.tokens)
        self._reader = turn.reader()
        self._thinking = thinking
        self._num_blocks = 0
        self._open_kind = ""  # of the block that grows; empty between blocks
        self._thought: list[str] = []
        self._has_calls = False

    def _message(self, content: list[dict[str, Any]], end: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self._model}
        return {**head, "content": content, **end, "usage": usage}

    def open(self) -> Iterable[bytes]:
        usage = _usage(Timings(self._num_prompt_tokens, 0, 0, 0.0, 0.0))
        yield _event("message_start", message=self._message([], _no_end(), usage))

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        return self._show(self._reader.feed(delta.text))

    def finish(self, finished: Finished) -> Iterable[bytes]:
        yield from self._show(self._reader.finish())
        if not self._num_blocks:  # clients look for a first block, also in an answer of nothing
            yield from self._begin(_text_block(""))
        yield from self._close()
        end = _end(finished, has_calls=self._has_calls)
        yield _event("message_delta", delta=end, usage=_end_usage(finished.timings))
        yield _event("message_stop")

    def fail(self, error: Exception) -> Iterable[bytes]:
        yield named_frame("error", anthropic_error(error)[1])

    def whole(self, answer: Answer) -> dict[str, Any]:
        message = whole_message([*self._reader.feed(answer.text), *self._reader.finish()])
        content = [_call_block(call.id, call.name, _arguments(call)) for call in message.tool_calls]
        if message.text or not content:
            content.insert(0, _text_block(message.text))
        if message.reasoning and self._thinking is not Thinking.HIDDEN:
            shown = message.reasoning if self._thinking is Thinking.SHOWN else ""
            content.insert(0, _thinking_block(shown, _signature(message.reasoning)))
        end = _end(answer.finished, has_calls=bool(message.tool_calls))
        return self._message(content, end, _usage(answer.finished.timings))

    def _show(self, events: Iterable[AnswerEvent]) -> Iterator[bytes]:
        for event in events:
            match event:
                case TextPart(text):
                    yield from self._begin(_text_block(""))
                    yield self._grow({"type": "text_delta", "text": text})
                case ReasoningPart(text) if self._thinking is not Thinking.HIDDEN:
                    yield from self._begin(_thinking_block("", ""))
                    self._thought.append(text)
                    if self._thinking is Thinking.SHOWN:
                        yield self._grow({"type": "thinking_delta", "thinking": text})
                case CallBegun(_index, call_id, name):
                    self._has_calls = True
                    yield from self._close()
                    yield from self._begin(_call_block(call_id, name, {}))
                case ArgumentsPart(_index, text):
                    yield self._grow({"type": "input_json_delta", "partial_json": text})
                case CallEnded():
                    yield from self._close()

    def _begin(self, block: dict[str, Any]) -> Iterator[bytes]:
        """Open a block unless one of its kind grows already."""
        if block["type"] == self._open_kind:
            return
        yield from self._close()
        self._open_kind = block["type"]
        self._num_blocks += 1
        yield _event("content_block_start", index=self._num_blocks - 1, content_block=block)

    def _grow(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._num_blocks - 1, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if not self._open_kind:
            return
        if self._open_kind == "thinking":
            yield self._grow({"type": "signature_delta", "signature": _signature("".join(self._thought))})
            self._thought = []
        self._open_kind = ""
        yield _event("content_block_stop", index=self._num_blocks - 1)


def _event(name: str, **fields: Any) -> bytes:
    return named_frame(name, {"type": name, **fields})


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def _thinking_block(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _call_block(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments, "caller": {"type": "direct"}}


def _arguments(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments, none when the answer's limit has cut them off."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return {}
    return dict(arguments)


def _signature(thought: str) -> str:
    """Return what clients want to have and send back with thinking; nobody has to prove here where it is from."""
    return base64.b64encode(hashlib.sha256(thought.encode("utf-8", "replace")).digest()).decode("ascii")


def _no_end() -> dict[str, Any]:
    return {"stop_reason": None, "stop_sequence": None, "stop_details": None, "container": None}


def _end(finished: Finished, *, has_calls: bool) -> dict[str, Any]:
    reason = _STOP_REASONS[finished.reason]
    return {
        **_no_end(),
        "stop_reason": "tool_use" if has_calls and finished.reason is FinishReason.END_OF_TEXT else reason,
        "stop_sequence": finished.stopping_string or None,
    }


def _end_usage(timings: Timings) -> dict[str, Any]:
    return {
        "input_tokens": timings.num_prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": timings.num_cached_tokens,
        "output_tokens": timings.num_generated_tokens,
        "output_tokens_details": None,
        "server_tool_use": None,
    }


def _usage(timings: Timings) -> dict[str, Any]:
    return {**_end_usage(timings), "cache_creation": None, "inference_geo": None, "service_tier": "standard"}
