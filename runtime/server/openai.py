"""OpenAI's dialect: chat completions, completions, models.

Shapes are those of OpenAI's schema with its nullable keys present, and llama-server's `timings` as an extra. What
would change an answer and isn't built is refused by name; `model` may be any name, since there is one model.

LlamaIndex's Llamafile client was written for a server that sent neither `[DONE]` nor a chunk without choices, and
breaks on both. It gives itself away by an `options` object, which no other client of this dialect sends.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.messages import Message, parse_messages
from runtime.chat.template import load_template, without_bos
from runtime.engine.sampling import SamplingParams
from runtime.engine.sequence import Finished, FinishReason, GenerationRequest, TextDelta, Timings, TokenProbs
from runtime.errors import RequestError
from runtime.server.body import Body, read_body
from runtime.server.errors import NotFound, describe
from runtime.server.formats import read_response_format
from runtime.server.generation import Generation, whole_answer
from runtime.server.logprobs import HeldProbs, parallel_json, tokens_json
from runtime.server.parameters import (
    read_max_tokens,
    read_num_logprobs,
    read_sampling,
    read_stop,
    timings_json,
    tokenize_prompt,
)
from runtime.server.responses import EventStream, JsonResponse
from runtime.server.service import Service
from runtime.server.streaming import DONE, TextFrame, frame

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

# Not built yet; beside each, the values that ask for nothing.
_UNSUPPORTED_EVERYWHERE: dict[str, tuple[object, ...]] = {"n": (1,)}
_UNSUPPORTED_IN_CHAT: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}
_UNSUPPORTED_IN_COMPLETIONS: dict[str, tuple[object, ...]] = {"best_of": (1,), "echo": (False,), "suffix": ("",)}


@dataclass(frozen=True, slots=True)
class CommonParams:
    """What both kinds of completion have in common, parsed."""

    model: str
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    ignore_eos: bool
    cache_prompt: bool
    n_keep: int
    is_streamed: bool
    includes_usage: bool
    ends_with_done: bool
    num_top_logprobs: int | None

    @classmethod
    def of(cls, body: Body, service: Service, num_top_logprobs: int | None) -> "CommonParams":
        """`num_top_logprobs` is how many of the likeliest tokens to tell beside each; None tells nothing of any."""
        for name, harmless in _UNSUPPORTED_EVERYWHERE.items():
            body.refuse(name, but=harmless)
        is_llamaindex = "options" in body
        given = body.over(body.nested("options"))
        sampling = read_sampling(given, service.defaults)
        sampling = replace(
            sampling,
            grammar=read_response_format(body) or sampling.grammar,
            n_probs=0 if num_top_logprobs is None else max(1, num_top_logprobs),
            post_sampling_probs=False,
        )
        return cls(
            model=given.text("model") or service.model_alias,
            sampling=sampling,
            max_tokens=read_max_tokens(
                given, "max_completion_tokens", "max_tokens", "n_predict", default=service.default_max_tokens
            ),
            stop=read_stop(given),
            ignore_eos=given.flag("ignore_eos", False),
            cache_prompt=given.flag("cache_prompt", True),
            n_keep=service.n_keep,
            is_streamed=given.flag("stream", False),
            includes_usage=given.nested("stream_options").flag("include_usage", False) and not is_llamaindex,
            ends_with_done=not is_llamaindex,
            num_top_logprobs=num_top_logprobs,
        )

    def request(self, prompt_tokens: tuple[int, ...]) -> GenerationRequest:
        return GenerationRequest(
            prompt_tokens=prompt_tokens,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            stop=self.stop,
            ignore_eos=self.ignore_eos,
            cache_prompt=self.cache_prompt,
            n_keep=self.n_keep,
        )


class Reply:
    """One completion in this dialect; what differs between chat and plain text is left to the subclasses."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    def __init__(self, params: CommonParams, system_fingerprint: str) -> None:
        self._params = params
        self._head = {
            "id": f"{self.id_prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": params.model,
            "system_fingerprint": system_fingerprint,
        }
        # With include_usage, every chunk but the last says that its usage is null.
        self._tail = {"usage": None} if params.includes_usage else {}
        self._delta_frame = TextFrame(self._chunk([self._text_choice(TextFrame.GAP)]))
        self._held_probs = HeldProbs()

    @property
    def is_streamed(self) -> bool:
        return self._params.is_streamed

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": self.chunk_object, "choices": choices, **self._tail}

    def _text_choice(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def _last_choice(self, finish_reason: str) -> dict[str, Any]:
        raise NotImplementedError

    def _whole_choice(self, text: str, finish_reason: str) -> dict[str, Any]:
        raise NotImplementedError

    def _logprobs(self, probs: tuple[TokenProbs, ...], num_top: int) -> dict[str, Any]:
        raise NotImplementedError

    def open(self) -> Iterable[bytes]:
        return ()

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        num_top = self._params.num_top_logprobs
        if num_top is None:
            return (self._delta_frame.with_text(delta.text),) if delta.text else ()
        probs = self._held_probs.shown_with(delta)
        if not delta.text:
            return ()
        choice = {**self._text_choice(delta.text), "logprobs": self._logprobs(probs, num_top)}
        return (frame(self._chunk([choice])),)

    def finish(self, finished: Finished) -> Iterable[bytes]:
        choice = self._last_choice(_finish_reason(finished))
        yield frame({**self._chunk([choice]), "timings": timings_json(finished.timings)})
        if self._params.includes_usage:
            yield frame({**self._chunk([]), "usage": _usage(finished.timings)})
        if self._params.ends_with_done:
            yield DONE

    def fail(self, error: Exception) -> Iterable[bytes]:
        yield frame({"error": describe(error)[1]})

    def whole(self, text: str, finished: Finished, probs: tuple[TokenProbs, ...]) -> dict[str, Any]:
        choice = self._whole_choice(text, _finish_reason(finished))
        if self._params.num_top_logprobs is not None:
            choice["logprobs"] = self._logprobs(probs, self._params.num_top_logprobs)
        return {
            **self._head,
            "object": self.whole_object,
            "choices": [choice],
            "usage": _usage(finished.timings),
            "timings": timings_json(finished.timings),
        }


class ChatReply(Reply):
    id_prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def open(self) -> Iterable[bytes]:
        return (frame(self._chunk([_chat_choice({"role": "assistant", "content": "", "refusal": None})])),)

    def _text_choice(self, text: str) -> dict[str, Any]:
        return _chat_choice({"content": text})

    def _last_choice(self, finish_reason: str) -> dict[str, Any]:
        return _chat_choice({}, finish_reason)

    def _whole_choice(self, text: str, finish_reason: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}

    def _logprobs(self, probs: tuple[TokenProbs, ...], num_top: int) -> dict[str, Any]:
        return {"content": tokens_json(probs, num_top), "refusal": None}


class TextReply(Reply):
    id_prefix = "cmpl"
    whole_object = chunk_object = "text_completion"
    _offset = 0  # in characters, of the text that is still to come

    def _text_choice(self, text: str) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": None}

    def _last_choice(self, finish_reason: str) -> dict[str, Any]:
        return {**self._text_choice(""), "finish_reason": finish_reason}

    def _whole_choice(self, text: str, finish_reason: str) -> dict[str, Any]:
        return {**self._text_choice(text), "finish_reason": finish_reason}

    def _logprobs(self, probs: tuple[TokenProbs, ...], num_top: int) -> dict[str, Any]:
        shown = parallel_json(probs, num_top, self._offset)
        self._offset += sum(map(len, shown["tokens"]))
        return shown


def _chat_choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _num_top_logprobs_in_chat(body: Body) -> int | None:
    num_top = body.optional_integer("top_logprobs", low=0, high=20)
    if body.flag("logprobs", False):
        return num_top or 0
    if num_top:
        raise RequestError("'top_logprobs' needs 'logprobs' to be true", "top_logprobs")
    return None


def _finish_reason(finished: Finished) -> str:
    return "length" if finished.reason is FinishReason.LENGTH else "stop"


def _usage(timings: Timings) -> dict[str, Any]:
    num_prompt_tokens = timings.num_cached_tokens + timings.num_prompt_tokens
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": timings.num_generated_tokens,
        "total_tokens": num_prompt_tokens + timings.num_generated_tokens,
        "prompt_tokens_details": {"cached_tokens": timings.num_cached_tokens},
    }


class OpenAI:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat_completions(self, request: Request) -> Response:
        body = await read_body(request)
        for name, harmless in _UNSUPPORTED_IN_CHAT.items():
            body.refuse(name, but=harmless)
        params = CommonParams.of(body, self._service, _num_top_logprobs_in_chat(body))
        messages = parse_messages(body.raw("messages"))
        engine = await self._service.engine()
        tokens = await asyncio.to_thread(_chat_tokens, engine, messages)
        return await self._answer(request, engine, params.request(tokens), ChatReply(params, self._service.build_info))

    async def completions(self, request: Request) -> Response:
        body = await read_body(request)
        for name, harmless in _UNSUPPORTED_IN_COMPLETIONS.items():
            body.refuse(name, but=harmless)
        params = CommonParams.of(body, self._service, read_num_logprobs(body) if "logprobs" in body else None)
        if "prompt" not in body:
            raise RequestError("'prompt' is missing", "prompt")
        engine = await self._service.engine()
        tokens = await tokenize_prompt(engine, body.raw("prompt"))
        return await self._answer(request, engine, params.request(tokens), TextReply(params, self._service.build_info))

    async def _answer(
        self, request: Request, engine: "Engine", generation_request: GenerationRequest, reply: Reply
    ) -> Response:
        generation = await Generation.begin(engine, generation_request)
        if reply.is_streamed:
            return EventStream(generation, reply)
        answer = await whole_answer(request.receive, generation)
        return JsonResponse(reply.whole(answer.text, answer.finished, answer.probs))

    async def models(self, _request: Request) -> Response:
        return JsonResponse({"object": "list", "data": [await self._model()]})

    async def model(self, request: Request) -> Response:
        wanted = request.path_params["id"]
        if wanted != self._service.model_alias:
            raise NotFound(f"there is no model '{wanted}' here; the only one is '{self._service.model_alias}'", "model")
        return JsonResponse(await self._model())

    async def _model(self) -> dict[str, Any]:
        info = (await self._service.engine()).info
        return {
            "id": self._service.model_alias,
            "object": "model",
            "created": self._service.created,
            "owned_by": "holdall",
            "meta": {
                "vocab_type": info.vocab_type,
                "n_vocab": info.n_vocab,
                "n_ctx_train": info.n_ctx_train,
                "n_embd": info.n_embd,
                "n_params": info.n_params,
                "size": info.size_bytes,
            },
        }


def _chat_tokens(engine: "Engine", messages: tuple[Message, ...]) -> tuple[int, ...]:
    info = engine.info
    prompt = load_template(info.chat_template, info.bos_token, info.eos_token).render(messages)
    prompt = without_bos(prompt, info.bos_token, adds_bos=info.add_bos)
    return tuple(engine.tokenize(prompt, add_special=True, parse_special=True))
