"""One completion in OpenAI's dialect, whole or streamed: the fields that its choices share, and a choice.

Nullable keys of the schema are present, and llama-server's `timings` is an extra.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from runtime.engine.values.events import Finished, FinishReason, Progress, Timings
from runtime.server.answering.errors import openai_error
from runtime.server.answering.replies import Reply
from runtime.server.answering.streaming import DONE, frame
from runtime.server.answering.timings import progress_json, timings_json
from runtime.server.openai.params import CommonParams

P = TypeVar("P")


class Envelope:
    """The fields shared by a completion's choices. The choice that ends last also sends the usage and `[DONE]`."""

    def __init__(
        self,
        params: CommonParams,
        system_fingerprint: str,
        *,
        id_prefix: str,
        whole_object: str,
        chunk_object: str,
        num_prompts: int = 1,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        """`extras` are more keys of the whole, and of a stream's last chunk for each choice."""
        self.params = params
        self._num_prompts = num_prompts
        self._extras = extras or {}
        self._whole_object, self._chunk_object = whole_object, chunk_object
        self._head = {
            "id": f"{id_prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": params.model,
            "system_fingerprint": system_fingerprint,
        }
        # With include_usage, every chunk but the last says that its usage is null.
        self._tail = {"usage": None} if params.includes_usage else {}
        self._finished: dict[int, Finished] = {}  # by the choice's index

    def chunk(self, choices: list[dict[str, Any]], timings: Timings | None = None) -> dict[str, Any]:
        chunk = {**self._head, "object": self._chunk_object, "choices": choices, **self._tail}
        return chunk if timings is None else {**chunk, "timings": timings_json(timings)}

    def last_frames(self, choice: dict[str, Any], finished: Finished, num_choices: int) -> Iterable[bytes]:
        """Yield a choice's last chunk, and what follows the last of `num_choices`."""
        self._finished[choice["index"]] = finished
        yield frame({**self.chunk([choice], finished.timings), **self._extras})
        if len(self._finished) < num_choices:
            return
        if self.params.includes_usage:
            in_order = [self._finished[index] for index in sorted(self._finished)]
            usage = usage_json(in_order, self._num_prompts)
            yield frame({**self.chunk([], finished.timings), "usage": usage})
        if self.params.ends_with_done:
            yield DONE

    def whole(self, choices: list[dict[str, Any]], finished: Sequence[Finished]) -> dict[str, Any]:
        return {
            **self._head,
            "object": self._whole_object,
            "choices": choices,
            "usage": usage_json(finished, self._num_prompts),
            "timings": timings_json(finished[0].timings),
            **self._extras,
        }


class ChoiceReply(Reply[P | Progress | Finished], Generic[P]):
    """One choice, which grows by pieces. Its kind says what they look like."""

    def __init__(self, envelope: Envelope, index: int, num_choices: int) -> None:
        self.envelope = envelope
        self.index = index
        self._num_choices = num_choices
        self._pieces: list[P] = []

    def progress(self, progress: Progress) -> Iterable[P | Progress | Finished]:
        return (progress,)

    def frames(self, event: P | Progress | Finished) -> Iterable[bytes]:
        if isinstance(event, Finished):
            return self.envelope.last_frames(self._last_choice(), event, self._num_choices)
        if isinstance(event, Progress):
            chunk = self.envelope.chunk([self._empty_choice()], event.timings)
            return (frame({**chunk, "prompt_progress": progress_json(event)}),)
        return self._piece_frames(event)

    def fail(self, error: Exception) -> Iterable[bytes]:
        yield frame(openai_error(error)[1])

    def _grown(self, piece: P) -> P:
        self._pieces.append(piece)
        return piece

    def _piece_frames(self, piece: P) -> Iterable[bytes]:
        raise NotImplementedError

    def _last_choice(self) -> dict[str, Any]:
        raise NotImplementedError

    def _empty_choice(self) -> dict[str, Any]:
        """Return a choice without content, for a chunk about something else."""
        raise NotImplementedError


def finish_reason(finished: Finished) -> str:
    return "length" if finished.reason is FinishReason.LENGTH else "stop"


def usage_json(finished: Sequence[Finished], num_prompts: int = 1) -> dict[str, Any]:
    """Return what the answers to each of these prompts took together; a prompt counts once, however many it has."""
    first_ones = [each.timings for each in finished[:: len(finished) // num_prompts]]
    num_prompt_tokens = sum(map(_num_prompt_tokens, first_ones))
    num_generated_tokens = sum(each.timings.num_generated_tokens for each in finished)
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_generated_tokens,
        "total_tokens": num_prompt_tokens + num_generated_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(timings.num_cached_tokens for timings in first_ones)},
    }


def _num_prompt_tokens(timings: Timings) -> int:
    return timings.num_cached_tokens + timings.num_prompt_tokens
