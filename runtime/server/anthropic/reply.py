"""Answers in Anthropic's dialect: a message of content blocks, whole or growing in named events.

A block is opened before its first piece and closed before the next block, so that a client always knows what it reads.
Of the tokens of a prompt those found in the cache are counted apart, which is known only at the end: the first event
counts all of them as computed, the last one has it right.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from runtime.chat.answer import AnswerEvent, ArgumentsPart, CallBegun, CallEnded, ReasoningPart, TextPart, arguments_in
from runtime.chat.turn import Turn
from runtime.engine.values.events import Finished, FinishReason, TextDelta, Timings
from runtime.server.answering.errors import anthropic_error
from runtime.server.answering.replies import Reply
from runtime.server.answering.streaming import named_frame
from runtime.server.anthropic.tools import Thinking

Event = dict[str, Any]

_STOP_REASONS = {
    FinishReason.END_OF_TEXT: "end_turn",
    FinishReason.STOP_STRING: "stop_sequence",
    FinishReason.LENGTH: "max_tokens",
}


class MessageReply(Reply[Event]):
    """One message."""

    def __init__(self, model: str, turn: Turn, thinking: Thinking) -> None:
        self._id = f"msg_{secrets.token_hex(12)}"
        self._model = model
        self._num_prompt_tokens = len(turn.prompt.tokens)
        self._reader = turn.reader()
        self._thinking = thinking
        self._blocks: list[dict[str, Any]] = []
        self._open_kind = ""  # of the block that grows, which is the last; empty between blocks
        self._grown: list[str] = []  # what it has grown by

    def _message(self, content: list[dict[str, Any]], end: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self._model}
        return {**head, "content": content, **end, "usage": usage}

    def open(self) -> Iterable[bytes]:
        usage = _usage(Timings(self._num_prompt_tokens, 0, 0, 0.0, 0.0))
        return self.frames(_event("message_start", message=self._message([], _no_end(), usage)))

    def take(self, delta: TextDelta) -> Iterable[Event]:
        return self._show(self._reader.feed(delta.text))

    def end(self, finished: Finished) -> Iterable[Event]:
        yield from self._show(self._reader.finish())
        if not self._blocks:  # clients look for a first block, also in an answer of nothing
            yield from self._begin(_text_block(""))
        yield from self._close()
        yield _event("message_delta", delta=self._end(), usage=_end_usage(finished.timings))
        yield _event("message_stop")

    def frames(self, event: Event) -> Iterable[bytes]:
        yield named_frame(event["type"], event)

    def fail(self, error: Exception) -> Iterable[bytes]:
        yield named_frame("error", anthropic_error(error)[1])

    def whole(self) -> dict[str, Any]:
        content = list(self._blocks)
        if all(block["type"] == "thinking" for block in content):  # clients look for a text
            content.append(_text_block(""))
        return self._message(content, self._end(), _usage(self.finished.timings))

    def _show(self, events: Iterable[AnswerEvent]) -> Iterator[Event]:
        for event in events:
            match event:
                case TextPart(text):
                    yield from self._begin(_text_block(""))
                    yield self._grow(text, {"type": "text_delta", "text": text})
                case ReasoningPart(text) if self._thinking is not Thinking.HIDDEN:
                    yield from self._begin(_thinking_block("", ""))
                    grown = self._grow(text, {"type": "thinking_delta", "thinking": text})
                    if self._thinking is Thinking.SHOWN:
                        yield grown
                case CallBegun(_index, call_id, name):
                    yield from self._close()
                    yield from self._begin(_call_block(call_id, name, {}))
                case ArgumentsPart(_index, text):
                    yield self._grow(text, {"type": "input_json_delta", "partial_json": text})
                case CallEnded():
                    yield from self._close()

    def _begin(self, block: dict[str, Any]) -> Iterator[Event]:
        """Open a block unless one of its kind grows already."""
        if block["type"] == self._open_kind:
            return
        yield from self._close()
        self._open_kind, self._grown = block["type"], []
        self._blocks.append(dict(block))
        yield _event("content_block_start", index=len(self._blocks) - 1, content_block=block)

    def _grow(self, text: str, delta: dict[str, Any]) -> Event:
        self._grown.append(text)
        return self._delta(delta)

    def _delta(self, delta: dict[str, Any]) -> Event:
        return _event("content_block_delta", index=len(self._blocks) - 1, delta=delta)

    def _close(self) -> Iterator[Event]:
        grown = "".join(self._grown)
        match self._open_kind:
            case "":
                return
            case "text":
                self._blocks[-1]["text"] = grown
            case "tool_use":
                self._blocks[-1]["input"] = arguments_in(grown)
            case "thinking":
                signature = _signature(grown)
                shown = grown if self._thinking is Thinking.SHOWN else ""
                self._blocks[-1] |= {"thinking": shown, "signature": signature}
                yield self._delta({"type": "signature_delta", "signature": signature})
        self._open_kind = ""
        yield _event("content_block_stop", index=len(self._blocks) - 1)

    def _end(self) -> dict[str, Any]:
        finished = self.finished
        has_calls = any(block["type"] == "tool_use" for block in self._blocks)
        is_call = has_calls and finished.reason is FinishReason.END_OF_TEXT
        return {
            **_no_end(),
            "stop_reason": "tool_use" if is_call else _STOP_REASONS[finished.reason],
            "stop_sequence": finished.stopping_string or None,
        }


def _event(name: str, **fields: Any) -> Event:
    return {"type": name, **fields}


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def _thinking_block(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _call_block(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments, "caller": {"type": "direct"}}


def _signature(thought: str) -> str:
    """Return what clients want to have and send back with thinking; nobody has to prove here where it is from."""
    return base64.b64encode(hashlib.sha256(thought.encode("utf-8", "replace")).digest()).decode("ascii")


def _no_end() -> dict[str, Any]:
    return {"stop_reason": None, "stop_sequence": None, "stop_details": None, "container": None}


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
