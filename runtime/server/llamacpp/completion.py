"""One completion in llama.cpp's native dialect: a request's fields, and the shape of its answer.

Its streams are nothing but `data:` events that carry `content`: there are clients (langchain's Llamafile, Theia's) that
take every line for one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.chat.reader import AnswerReader
from runtime.checked import JsonObject
from runtime.engine.values.events import Finished, FinishReason, Progress, TextDelta, Timings, TokenProbs
from runtime.engine.values.facts import ModelInfo
from runtime.engine.values.request import GenerationParams, GenerationRequest, Prompt
from runtime.errors import RequestError
from runtime.server.answering.errors import describe
from runtime.server.answering.logprobs import tokens_json
from runtime.server.answering.replies import Reply
from runtime.server.answering.scored import ScoredReader
from runtime.server.answering.settings import generation_settings
from runtime.server.answering.streaming import frame
from runtime.server.answering.timings import progress_json, timings_json
from runtime.server.asking.fields import Flag, Integer, Texts
from runtime.server.asking.prompts import MAX_PROMPTS
from runtime.server.asking.sampling import (
    LORA,
    PROGRESS_FIELDS,
    SAMPLING_FIELDS,
    SLOT_FIELDS,
    STOP,
    STREAM,
    numbered_answer,
    read_generation,
    read_num_logprobs,
    with_progress,
    with_slot,
)
from runtime.server.service import Service

Event = tuple[dict[str, Any], tuple[TokenProbs, ...]]  # an object, and the probabilities that it is framed with

_STOP_TYPES = {FinishReason.END_OF_TEXT: "eos", FinishReason.STOP_STRING: "word", FinishReason.LENGTH: "limit"}
_MISSING = object()

_N_PREDICT = Integer("n_predict", "Longest answer in tokens; negative is the server's own limit.")
_N_CMPL = Integer("n_cmpl", "Answers to each prompt.", low=1, high=MAX_PROMPTS)
_T_MAX_PREDICT_MS = Integer("t_max_predict_ms", "End at the first line end after this many milliseconds.", high=2**53)
_RETURN_TOKENS = Flag("return_tokens", "Return the answer's token ids.")
_RESPONSE_FIELDS = Texts("response_fields", "Return only these fields; a/b is b within a.", most=256)
_N_KEEP = Integer("n_keep", "Tokens of the prompt to keep when the context shifts.", low=-1, high=2**31 - 1)
_N_DISCARD = Integer("n_discard", "Tokens to drop when the context shifts; 0 is half of them.", low=0, high=2**31 - 1)
ANSWER_FIELDS = (
    *(_N_PREDICT, STREAM, STOP, LORA, *SAMPLING_FIELDS, *SLOT_FIELDS, _N_CMPL, _T_MAX_PREDICT_MS, _RETURN_TOKENS),
    *(*PROGRESS_FIELDS, _RESPONSE_FIELDS, _N_KEEP, _N_DISCARD),
)


@dataclass(frozen=True, slots=True)
class CompletionParams:
    """A parsed `/completion`, less its prompts."""

    generation: GenerationParams
    num_answers: int
    is_streamed: bool
    returns_tokens: bool
    response_fields: tuple[str, ...]

    @classmethod
    def of(cls, body: JsonObject, service: Service) -> "CompletionParams":
        max_milliseconds = _T_MAX_PREDICT_MS.value_in(body, -1)
        is_streamed = STREAM.value_in(body, False)
        generation = read_generation(body, service.defaults, _N_PREDICT.name, "max_tokens")
        sampling = generation.sampling
        if "n_probs" not in body:  # llama-server knows it by OpenAI's name, too
            sampling = replace(sampling, n_probs=read_num_logprobs(body) or sampling.n_probs)
        return cls(
            generation=replace(
                with_progress(with_slot(generation, body), body, is_streamed=is_streamed),
                sampling=sampling,
                n_keep=_N_KEEP.value_in(body, service.defaults.n_keep),
                n_discard=_N_DISCARD.value_in(body, 0),
                max_seconds=max_milliseconds / 1000 if max_milliseconds > 0 else None,
            ),
            num_answers=_N_CMPL.value_in(body, 1),
            is_streamed=is_streamed,
            returns_tokens=_RETURN_TOKENS.value_in(body, False),
            response_fields=_RESPONSE_FIELDS.value_in(body),
        )

    def requests(self, prompts: list[Prompt]) -> Iterator[GenerationRequest]:
        """Yield a request for each answer to each prompt. Raises RequestError when they are too many."""
        if len(prompts) * self.num_answers > MAX_PROMPTS:
            raise RequestError(f"these are more than {MAX_PROMPTS} answers in one request", _N_CMPL.name)
        for prompt in prompts:
            for number in range(self.num_answers):
                yield GenerationRequest(prompt, numbered_answer(self.generation, number))

    def settings(self, params: GenerationParams, info: ModelInfo, forbidden: Iterable[int] = ()) -> dict[str, Any]:
        return generation_settings(
            params, is_streamed=self.is_streamed, speculation=info.speculation, forbidden=forbidden
        )


@dataclass(frozen=True, slots=True)
class PendingAnswer:
    """One of a request's answers before it is there; `index` counts them, `prompt` gives the text of the prompt's
    tokens, which only the last object holds, and `forbidden` are the tokens that may not be chosen.
    """

    request: GenerationRequest
    index: int
    prompt: Callable[[], str]
    forbidden: tuple[int, ...]
    model: str
    info: ModelInfo


class CompletionReply(Reply[Event]):
    """One of a request's answers in this dialect."""

    def __init__(self, params: CompletionParams, pending: PendingAnswer) -> None:
        self._params = params
        self._pending = pending
        self._reader = ScoredReader(AnswerReader(None, None))
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._probs: list[TokenProbs] = []
        self._num_told = 0  # of the tokens; the engine still holds back the others' text

    def progress(self, progress: Progress) -> Iterable[Event]:
        event = self._event("", (), progress.slot, progress.timings)
        yield {**event, "prompt_progress": progress_json(progress)}, ()

    def take(self, delta: TextDelta) -> Iterable[Event]:
        self._tokens += delta.tokens
        for part in self._reader.take(delta):
            self._texts.append(delta.text)
            self._probs += part.probs
            event = self._event(delta.text, self._untold_tokens(), delta.slot, delta.timings)
            yield event, part.probs

    def _untold_tokens(self) -> list[int]:
        untold, self._num_told = self._tokens[self._num_told :], len(self._tokens)
        return untold

    def _event(self, text: str, tokens: Sequence[int], slot: int, timings: Timings | None) -> dict[str, Any]:
        event = {
            "index": self._pending.index,
            "content": text,
            "tokens": tokens,
            "stop": False,
            "id_slot": slot,
            "tokens_predicted": len(self._tokens),
            "tokens_evaluated": len(self._pending.request.prompt.tokens),
        }
        return event if timings is None else {**event, "timings": timings_json(timings)}

    def end(self, finished: Finished) -> Iterable[Event]:
        if finished.end_token is not None:  # it counts, though it has no text
            self._tokens.append(finished.end_token)
        if finished.end_probs is not None:  # they come as every token's do: the last event of a stream has none
            self._probs.append(finished.end_probs)
            event = self._event("", self._untold_tokens(), finished.slot, None)
            yield event, (finished.end_probs,)
        yield self._last("", self._untold_tokens(), ()), ()

    def frames(self, event: Event) -> Iterable[bytes]:
        fields, probs = event
        return (frame(fields | self._probabilities(probs)),)

    def fail(self, error: Exception) -> Iterable[bytes]:
        # `content`, because clients of this dialect read it from every event.
        return (frame({"index": self._pending.index, "content": "", "stop": True, "error": describe(error)[1]}),)

    def whole(self) -> dict[str, Any]:
        return self._last("".join(self._texts), self._tokens, self._probs)

    def _probabilities(self, probs: Sequence[TokenProbs]) -> dict[str, Any]:
        sampling = self._pending.request.params.sampling
        if not sampling.n_probs or not probs:
            return {}
        shown = tokens_json(probs, sampling.n_probs, is_after_sampling=sampling.post_sampling_probs)
        return {"completion_probabilities": shown}

    def _last(self, text: str, tokens: Sequence[int], probs: Sequence[TokenProbs]) -> dict[str, Any]:
        """Return the object with the counts: the last of a stream, or the whole."""
        pending, finished, timings = self._pending, self.finished, self.finished.timings
        reply = {
            "index": pending.index,
            "content": text,
            "tokens": tokens if self._params.returns_tokens else (),
            "id_slot": finished.slot,
            "stop": True,
            "model": pending.model,
            "tokens_predicted": timings.num_generated_tokens,
            "tokens_evaluated": len(pending.request.prompt.tokens),
            "generation_settings": self._params.settings(pending.request.params, pending.info, pending.forbidden),
            "prompt": pending.prompt(),
            "has_new_line": any("\n" in each for each in self._texts),
            "truncated": finished.is_truncated,
            "stop_type": _STOP_TYPES[finished.reason],
            "stopping_word": finished.stopping_string,
            "tokens_cached": _num_tokens_in_slot(timings),
            "timings": timings_json(timings),
            **self._probabilities(probs),
        }
        chosen = self._params.response_fields
        return dict(_chosen(reply, chosen)) if chosen else reply


def _chosen(reply: dict[str, Any], paths: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield the fields at these paths under the paths' own names; those that aren't there are left out."""
    for path in paths:
        found: Any = reply
        for name in path.split("/"):
            found = found.get(name, _MISSING) if isinstance(found, dict) else _MISSING
        if found is not _MISSING:
            yield path, found


def _num_tokens_in_slot(timings: Timings) -> int:
    # The last token that was chosen has not been computed.
    generated = max(timings.num_generated_tokens - 1, 0)
    return timings.num_cached_tokens + timings.num_prompt_tokens + generated
