"""Answers in Ollama's dialect: an object a line while they grow, and a last one with the counts; or that one alone.

Durations are nanoseconds. Clients divide counts by them, so they are never zero.
"""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from runtime.engine.grammar import Grammar
from runtime.engine.sampling import SamplingParams
from runtime.engine.sequence import Finished, FinishReason, GenerationRequest, TextDelta, TokenProbs
from runtime.errors import RequestError
from runtime.server.body import Body
from runtime.server.errors import ollama_error
from runtime.server.formats import json_schema_grammar
from runtime.server.generation import Answer
from runtime.server.logprobs import HeldProbs, tokens_json
from runtime.server.ollama_models import timestamp
from runtime.server.parameters import read_lora, read_max_tokens, read_sampling, read_stop
from runtime.server.service import Service
from runtime.server.streaming import line

_INT32_MAX = 2**31 - 1
_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)?(\d+(\.\d*)?(ns|us|µs|μs|ms|s|m|h))*")
_SOME_TIME = re.compile("[1-9]")


@dataclass(frozen=True, slots=True)
class OllamaParams:
    """What `/api/generate` and `/api/chat` have in common, parsed."""

    model: str
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    n_keep: int
    lora: tuple[tuple[int, float], ...] | None
    is_streamed: bool
    is_unloading: bool
    num_top_logprobs: int | None

    @classmethod
    def of(cls, body: Body, service: Service) -> "OllamaParams":
        """Options that are about loading a model (`num_ctx`, `num_gpu`, …) change nothing here: it is loaded."""
        body.refuse("think", but=(False,))
        options = body.nested("options")
        num_top_logprobs = _num_top_logprobs(body)
        sampling = read_sampling(options, service.defaults)
        return cls(
            model=body.text("model") or service.model_alias,
            sampling=replace(
                sampling,
                grammar=_read_format(body.raw("format")) or sampling.grammar,
                n_probs=0 if num_top_logprobs is None else max(1, num_top_logprobs),
                post_sampling_probs=False,
            ),
            max_tokens=read_max_tokens(options, "num_predict", default=service.default_max_tokens),
            stop=read_stop(options),
            n_keep=options.integer("num_keep", service.n_keep, low=-1, high=_INT32_MAX),
            lora=read_lora(options),
            is_streamed=body.flag("stream", True),
            is_unloading=_read_is_unloading(body.raw("keep_alive")),
            num_top_logprobs=num_top_logprobs,
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


def _read_format(value: object) -> Grammar | None:
    if value is None or value == "":
        return None
    if value == "json":
        return json_schema_grammar({}, "format")
    if not isinstance(value, dict):
        raise RequestError("'format' must be 'json' or a JSON schema", "format")
    return json_schema_grammar(value, "format")


def _read_is_unloading(keep_alive: object) -> bool:
    """Return whether a request wants the model out of memory at once, which here only the answer pretends."""
    if keep_alive is None:
        return False
    if isinstance(keep_alive, str):
        if not _DURATION.fullmatch(keep_alive):
            raise RequestError("'keep_alive' must be a duration such as '5m', or a number of seconds", "keep_alive")
        return not _SOME_TIME.search(keep_alive)
    if isinstance(keep_alive, bool) or not isinstance(keep_alive, (int, float)):
        raise RequestError("'keep_alive' must be a duration such as '5m', or a number of seconds", "keep_alive")
    return keep_alive == 0


def _num_top_logprobs(body: Body) -> int | None:
    num_top = body.integer("top_logprobs", 0, low=0, high=20)
    return num_top if body.flag("logprobs", False) else None


class OllamaReply:
    """One answer. What differs between `/api/generate` and `/api/chat` is left to the subclasses."""

    def __init__(self, params: OllamaParams, clock: "Clock") -> None:
        self._params = params
        self._clock = clock
        self._held_probs = HeldProbs()

    def _said(self, text: str) -> dict[str, Any]:
        """Return the fields that hold a piece of the answer, or all of it."""
        raise NotImplementedError

    def _object(self, text: str, **fields: Any) -> dict[str, Any]:
        head = {"model": self._params.model, "created_at": timestamp(time.time())}
        return {**head, **self._said(text), "done": False, **fields}

    def _logprobs(self, probs: tuple[TokenProbs, ...]) -> dict[str, Any]:
        num_top = self._params.num_top_logprobs
        return {} if num_top is None or not probs else {"logprobs": tokens_json(probs, num_top)}

    def open(self) -> Iterable[bytes]:
        return ()

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        probs = self._held_probs.shown_with(delta)
        return (line(self._object(delta.text, **self._logprobs(probs))),) if delta.text else ()

    def finish(self, finished: Finished) -> Iterable[bytes]:
        return (line(self._object("", **self._end(finished))),)

    def fail(self, error: Exception) -> Iterable[bytes]:
        return (line(ollama_error(error)[1]),)

    def whole(self, answer: Answer) -> dict[str, Any]:
        return self._object(answer.text, **self._logprobs(answer.probs), **self._end(answer.finished))

    def loaded(self) -> dict[str, Any]:
        """Return the answer to a request for nothing, which clients send to have the model loaded or unloaded."""
        return self._object("", done=True, done_reason="unload" if self._params.is_unloading else "load")

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


class GenerateReply(OllamaReply):
    """Its last object holds the whole text as tokens, for a later prompt to go on from."""

    def __init__(self, params: OllamaParams, clock: "Clock", prompt_tokens: tuple[int, ...] | None) -> None:
        """`prompt_tokens` None tells no tokens."""
        super().__init__(params, clock)
        self._tokens = None if prompt_tokens is None else list(prompt_tokens)

    def _said(self, text: str) -> dict[str, Any]:
        return {"response": text}

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        if self._tokens is not None:
            self._tokens += delta.tokens
        return super().delta(delta)

    def whole(self, answer: Answer) -> dict[str, Any]:
        if self._tokens is not None:
            self._tokens += answer.tokens
        return super().whole(answer)

    def _end(self, finished: Finished) -> dict[str, Any]:
        told = {} if self._tokens is None else {"context": self._tokens}
        return {**super()._end(finished), **told}


class ChatReply(OllamaReply):
    def _said(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}


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
