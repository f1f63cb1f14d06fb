"""Answers in Anthropic's dialect: a message of content blocks, whole or growing in named events.

A block is opened before its first piece and closed before the next block, so that a client always knows what it reads.
Of the tokens of a prompt those found in the cache are counted apart, which is known only at the end: the first event
counts all of them as computed, the last one has it right.
"""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from runtime.engine.grammar import Grammar
from runtime.engine.sampling import SamplingParams
from runtime.engine.sequence import Finished, FinishReason, GenerationRequest, TextDelta, Timings
from runtime.errors import RequestError
from runtime.server.body import Body
from runtime.server.errors import anthropic_error
from runtime.server.formats import json_schema_grammar
from runtime.server.generation import Answer
from runtime.server.parameters import read_lora, read_max_tokens, read_sampling
from runtime.server.service import Service
from runtime.server.streaming import named_frame

_STOP_REASONS = {
    FinishReason.END_OF_TEXT: "end_turn",
    FinishReason.STOP_STRING: "stop_sequence",
    FinishReason.LENGTH: "max_tokens",
}


@dataclass(frozen=True, slots=True)
class AnthropicParams:
    """How a message is to be generated, parsed."""

    model: str
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    n_keep: int
    lora: tuple[tuple[int, float], ...] | None
    is_streamed: bool

    @classmethod
    def of(cls, body: Body, service: Service) -> "AnthropicParams":
        body.refuse("container")
        body.refuse("mcp_servers", but=([],))
        sampling = read_sampling(body, service.defaults)
        return cls(
            model=body.text("model") or service.model_alias,
            sampling=replace(
                sampling, grammar=_read_output_format(body) or sampling.grammar, n_probs=0, post_sampling_probs=False
            ),
            max_tokens=read_max_tokens(body, "max_tokens", default=service.default_max_tokens),
            stop=tuple(stop for stop in body.texts("stop_sequences") if stop),
            n_keep=service.n_keep,
            lora=read_lora(body),
            is_streamed=body.flag("stream", False),
        )

    def request(self, prompt_tokens: tuple[int, ...]) -> GenerationRequest:
        return GenerationRequest(
            prompt_tokens=prompt_tokens,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            stop=self.stop,
            n_keep=self.n_keep,
            lora=self.lora,
        )


def _read_output_format(body: Body) -> Grammar | None:
    """Return the grammar of the answer's format: a part of `output_config`, or the field that came before it."""
    config = body.nested("output_config")
    fields = config if "format" in config else body
    name = "format" if "format" in config else "output_format"
    if name not in fields:
        return None
    wanted = fields.nested(name)
    if wanted.raw("type") != "json_schema" or "schema" not in wanted:
        raise RequestError(f"'{name}' must have the type 'json_schema' and a 'schema'", name)
    return json_schema_grammar(wanted.raw("schema"), f"{name}.schema")


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
