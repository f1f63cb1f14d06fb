"""Answers in Anthropic's dialect: a message of content blocks, whole or growing in named events.

A block is opened before its first piece and closed before the next block, so that a client always knows what it reads.
Of the tokens of a prompt those found in the cache are counted apart, which is known only at the end: the first event
counts all of them as computed, the last one has it right.
"""

import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from runtime.engine.sequence import Finished, FinishReason, TextDelta, Timings
from runtime.server.anthropic_params import AnthropicParams
from runtime.server.errors import anthropic_error
from runtime.server.generation import Answer
from runtime.server.streaming import named_frame

_STOP_REASONS = {
    FinishReason.END_OF_TEXT: "end_turn",
    FinishReason.STOP_STRING: "stop_sequence",
    FinishReason.LENGTH: "max_tokens",
}


class MessageReply:
    """One message."""

    def __init__(self, params: AnthropicParams, num_prompt_tokens: int) -> None:
        self._id = f"msg_{secrets.token_hex(12)}"
        self._params = params
        self._num_prompt_tokens = num_prompt_tokens
        self._num_blocks = 0
        self._is_in_block = False

    def _message(self, content: list[dict[str, Any]], end: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self._params.model}
        return {**head, "content": content, **end, "usage": usage}

    def open(self) -> Iterable[bytes]:
        usage = _usage(Timings(self._num_prompt_tokens, 0, 0, 0.0, 0.0))
        yield _event("message_start", message=self._message([], _no_end(), usage))

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        if not delta.text:
            return
        if not self._is_in_block:
            yield self._start(_text_block(""))
        yield self._grow({"type": "text_delta", "text": delta.text})

    def finish(self, finished: Finished) -> Iterable[bytes]:
        if not self._num_blocks:  # clients look for a first block, also in an answer of nothing
            yield self._start(_text_block(""))
        yield from self._close()
        yield _event("message_delta", delta=_end(finished), usage=_end_usage(finished.timings))
        yield _event("message_stop")

    def fail(self, error: Exception) -> Iterable[bytes]:
        yield named_frame("error", anthropic_error(error)[1])

    def whole(self, answer: Answer) -> dict[str, Any]:
        finished = answer.finished
        return self._message([_text_block(answer.text)], _end(finished), _usage(finished.timings))

    def _start(self, block: dict[str, Any]) -> bytes:
        self._num_blocks += 1
        self._is_in_block = True
        return _event("content_block_start", index=self._num_blocks - 1, content_block=block)

    def _grow(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._num_blocks - 1, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._is_in_block:
            self._is_in_block = False
            yield _event("content_block_stop", index=self._num_blocks - 1)


def _event(name: str, **fields: Any) -> bytes:
    return named_frame(name, {"type": name, **fields})


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def _no_end() -> dict[str, Any]:
    return {"stop_reason": None, "stop_sequence": None, "stop_details": None, "container": None}


def _end(finished: Finished) -> dict[str, Any]:
    return {
        **_no_end(),
        "stop_reason": _STOP_REASONS[finished.reason],
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
