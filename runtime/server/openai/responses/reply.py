"""One response in OpenAI's newer API, whole or as a stream of numbered events. Both are made of the same events."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from runtime.chat.answer import TextPart
from runtime.chat.reader import AnswerReader
from runtime.engine.values.events import Finished, FinishReason, Progress, TextDelta
from runtime.server.answering.errors import describe
from runtime.server.answering.logprobs import tokens_json
from runtime.server.answering.replies import Reply
from runtime.server.answering.scored import Scored, ScoredReader
from runtime.server.answering.streaming import named_frame
from runtime.server.answering.timings import progress_json, timings_json
from runtime.server.openai.responses.output import Event, Output
from runtime.server.openai.responses.params import ResponseParams

_STATUSES = {"completed": "response.completed", "incomplete": "response.incomplete"}


class ResponseReply(Reply[Event]):
    """One response. `keep`, if any, is called with it at the end."""

    def __init__(
        self, params: ResponseParams, reader: AnswerReader, keep: Callable[[dict[str, Any]], None] | None
    ) -> None:
        self._params = params
        self._reader = ScoredReader(reader)
        self._keep = keep
        self._output = Output()
        self._num_events = 0
        self._num_thinking_tokens = 0
        self._response: dict[str, Any] = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": [],
            **params.echoed,
        }

    def open(self) -> Iterable[bytes]:
        for kind in ("response.created", "response.in_progress"):
            yield from self.frames({"type": kind, "response": self._response})

    def progress(self, progress: Progress) -> Iterable[Event]:
        reported = {"response": self._response, "prompt_progress": progress_json(progress)}
        yield {"type": "response.in_progress", **reported}

    def take(self, delta: TextDelta) -> Iterable[Event]:
        timings = {} if delta.timings is None else {"timings": timings_json(delta.timings)}
        for event in self._grow(self._reader.take(delta)):
            yield {**event, **timings}
        if self._output.is_thinking:
            self._num_thinking_tokens += len(delta.tokens)

    def end(self, finished: Finished) -> Iterable[Event]:
        yield from self._grow(self._reader.end())
        is_cut_off = finished.reason is FinishReason.LENGTH
        yield from self._output.end_all(is_cut_off=is_cut_off)
        self._response |= {
            "status": "incomplete" if is_cut_off else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut_off else None,
            "completed_at": None if is_cut_off else int(time.time()),
            "output": self._output.items,
            "usage": self._usage(finished),
        }
        if self._keep is not None:
            self._keep(self._response)
        last = {"type": _STATUSES[self._response["status"]], "response": self._response}
        yield {**last, "timings": timings_json(finished.timings)}

    def frames(self, event: Event) -> Iterable[bytes]:
        self._num_events += 1
        yield named_frame(event["type"], {**event, "sequence_number": self._num_events - 1})

    def fail(self, error: Exception) -> Iterable[bytes]:
        described = describe(error)[1]
        reported = {"code": described["type"], "message": described["message"]}
        yield from self.frames({"type": "error", **reported, "param": described["param"]})
        error_json = {"code": "server_error", "message": described["message"]}
        self._response |= {"status": "failed", "error": error_json, "output": self._output.items}
        yield from self.frames({"type": "response.failed", "response": self._response})

    def whole(self) -> dict[str, Any]:
        return self._response

    def _grow(self, parts: Iterable[Scored]) -> Iterator[Event]:
        num_top = self._params.num_top_logprobs
        for part in parts:
            if part.event is not None:
                has_logprobs = isinstance(part.event, TextPart) and num_top is not None
                yield from self._output.take(part.event, tokens_json(part.probs, num_top or 0) if has_logprobs else [])

    def _usage(self, finished: Finished) -> dict[str, Any]:
        timings = finished.timings
        num_input_tokens = timings.num_cached_tokens + timings.num_prompt_tokens
        return {
            "input_tokens": num_input_tokens,
            "input_tokens_details": {"cached_tokens": timings.num_cached_tokens},
            "output_tokens": timings.num_generated_tokens,
            "output_tokens_details": {"reasoning_tokens": self._num_thinking_tokens},
            "total_tokens": num_input_tokens + timings.num_generated_tokens,
        }
