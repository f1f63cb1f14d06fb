"""Answers in Ollama's dialect: an object a line while they grow, and a last one with the counts; or that one alone.

Durations are nanoseconds. Clients divide counts by them, so they are never zero.
"""

import time
from collections.abc import Iterable
from typing import Any

from runtime.engine.sequence import Finished, FinishReason, TextDelta, TokenProbs
from runtime.server.errors import ollama_error
from runtime.server.generation import Answer
from runtime.server.logprobs import HeldProbs, tokens_json
from runtime.server.ollama_models import timestamp
from runtime.server.ollama_params import OllamaParams
from runtime.server.streaming import line


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
