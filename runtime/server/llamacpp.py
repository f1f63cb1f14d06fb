"""llama.cpp's native dialect, as llama-server and llamafile's server speak it.

Field names and shapes are those of llama.cpp's `tools/server/README.md`. Its streams are nothing but `data:` events
that carry `content`: there are clients (langchain's Llamafile, Theia's) that take every line for one.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.template import CHATML
from runtime.engine.sampling import SamplingParams
from runtime.engine.sequence import Finished, FinishReason, GenerationRequest, TextDelta, Timings
from runtime.errors import RequestError
from runtime.server.body import Body, read_body
from runtime.server.errors import describe
from runtime.server.generation import Generation, whole_answer
from runtime.server.lifecycle import Loading, Ready
from runtime.server.parameters import (
    is_token,
    read_max_tokens,
    read_sampling,
    read_stop,
    timings_json,
    tokenize_prompt,
)
from runtime.server.responses import EventStream, JsonResponse
from runtime.server.service import Service
from runtime.server.streaming import frame

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

_STOP_TYPES = {
    FinishReason.END_OF_TEXT: "eos",
    FinishReason.STOP_STRING: "word",
    FinishReason.LENGTH: "limit",
    FinishReason.CANCELLED: "none",
}


@dataclass(frozen=True, slots=True)
class CompletionParams:
    """A parsed `/completion`, less its prompt."""

    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    ignore_eos: bool
    cache_prompt: bool
    n_keep: int
    n_discard: int
    is_streamed: bool
    returns_tokens: bool

    @classmethod
    def of(cls, body: Body, service: Service) -> "CompletionParams":
        body.refuse("n_cmpl", but=(1,))
        return cls(
            sampling=read_sampling(body, service.defaults),
            max_tokens=read_max_tokens(body, "n_predict", "max_tokens", default=service.default_max_tokens),
            stop=read_stop(body),
            ignore_eos=body.flag("ignore_eos", False),
            cache_prompt=body.flag("cache_prompt", True),
            n_keep=body.integer("n_keep", service.n_keep, low=-1),
            n_discard=body.integer("n_discard", 0, low=0),
            is_streamed=body.flag("stream", False),
            returns_tokens=body.flag("return_tokens", False),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what llama-server calls `generation_settings`."""
        sampling = self.sampling
        return {
            "seed": -1 if sampling.seed is None else sampling.seed,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "typical_p": sampling.typical_p,
            "repeat_last_n": sampling.repeat_last_n,
            "repeat_penalty": sampling.repeat_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "stop": list(self.stop),
            "max_tokens": -1 if self.max_tokens is None else self.max_tokens,
            "n_predict": -1 if self.max_tokens is None else self.max_tokens,
            "n_keep": self.n_keep,
            "n_discard": self.n_discard,
            "ignore_eos": self.ignore_eos,
            "stream": self.is_streamed,
        }


class CompletionReply:
    """One completion in this dialect: the frames of a stream, or the whole as one object."""

    def __init__(self, params: CompletionParams, prompt: str, num_prompt_tokens: int, model: str) -> None:
        self._params = params
        self._prompt = prompt
        self._num_prompt_tokens = num_prompt_tokens
        self._model = model
        self._num_generated = 0
        self._has_new_line = False
        self._held: tuple[int, ...] = ()  # tokens whose text the engine still holds back

    def open(self) -> Iterable[bytes]:
        return ()

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        self._num_generated += len(delta.tokens)
        tokens = self._held + delta.tokens
        if not delta.text:
            self._held = tokens
            return ()
        self._held = ()
        self._has_new_line = self._has_new_line or "\n" in delta.text
        event = {
            "index": 0,
            "content": delta.text,
            "tokens": tokens,
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": self._num_generated,
            "tokens_evaluated": self._num_prompt_tokens,
        }
        return (frame(event),)

    def finish(self, finished: Finished) -> Iterable[bytes]:
        return (frame(self.whole("", self._held, finished)),)

    def fail(self, error: Exception) -> Iterable[bytes]:
        # `content`, because clients of this dialect read it from every event.
        return (frame({"content": "", "stop": True, "error": describe(error)[1]}),)

    def whole(self, text: str, tokens: tuple[int, ...], finished: Finished) -> dict[str, Any]:
        timings = finished.timings
        return {
            "index": 0,
            "content": text,
            "tokens": tokens if self._params.returns_tokens else (),
            "id_slot": -1,
            "stop": True,
            "model": self._model,
            "tokens_predicted": timings.num_generated_tokens,
            "tokens_evaluated": self._num_prompt_tokens,
            "generation_settings": self._params.to_json(),
            "prompt": self._prompt,
            "has_new_line": self._has_new_line or "\n" in text,
            "truncated": finished.is_truncated,
            "stop_type": _STOP_TYPES[finished.reason],
            "stopping_word": finished.stopping_string,
            "tokens_cached": _num_tokens_in_slot(timings),
            "timings": timings_json(timings),
        }


def _num_tokens_in_slot(timings: Timings) -> int:
    # The last token that was chosen has not been computed.
    generated = max(timings.num_generated_tokens - 1, 0)
    return timings.num_cached_tokens + timings.num_prompt_tokens + generated


class LlamaCpp:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def completion(self, request: Request) -> Response:
        body = await read_body(request)
        params = CompletionParams.of(body, self._service)
        if "prompt" not in body:
            raise RequestError("'prompt' is missing", "prompt")
        engine = await self._service.engine()
        given = body.raw("prompt")
        tokens = await tokenize_prompt(engine, given)
        prompt = given if isinstance(given, str) else await asyncio.to_thread(_text_of, engine, tokens)
        generation = Generation(
            engine,
            GenerationRequest(
                prompt_tokens=tokens,
                sampling=params.sampling,
                max_tokens=params.max_tokens,
                stop=params.stop,
                ignore_eos=params.ignore_eos,
                cache_prompt=params.cache_prompt,
                n_keep=params.n_keep,
                n_discard=params.n_discard,
            ),
        )
        reply = CompletionReply(params, prompt, len(tokens), self._service.model_alias)
        if params.is_streamed:
            return EventStream(generation, reply)
        answer = await whole_answer(request.receive, generation)
        return JsonResponse(reply.whole(answer.text, answer.tokens, answer.finished))

    async def tokenize(self, request: Request) -> Response:
        body = await read_body(request)
        add_special = body.flag("add_special", False)
        parse_special = body.flag("parse_special", True)
        with_pieces = body.flag("with_pieces", False)
        text = body.text("content") or ""
        engine = await self._service.engine()
        tokens = await asyncio.to_thread(engine.tokenize, text, add_special=add_special, parse_special=parse_special)
        if not with_pieces:
            return JsonResponse({"tokens": tokens})
        return JsonResponse({"tokens": [{"id": token, "piece": _piece_json(engine.piece(token))} for token in tokens]})

    async def detokenize(self, request: Request) -> Response:
        tokens = (await read_body(request)).raw("tokens") or []
        if not isinstance(tokens, list) or not all(map(is_token, tokens)):
            raise RequestError("'tokens' must be a list of token ids", "tokens")
        engine = await self._service.engine()
        return JsonResponse({"content": await asyncio.to_thread(engine.detokenize, tokens)})

    async def health(self, _request: Request) -> Response:
        state = self._service.lifecycle.state
        if isinstance(state, Ready):
            return JsonResponse({"status": "ok"})
        if isinstance(state, Loading):
            error = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
            return JsonResponse(
                {"error": error, "status": "loading model", "progress": state.progress}, status_code=503
            )
        await self._service.engine()  # raises why there is none
        raise AssertionError("a lifecycle that is over gave out an engine")

    async def props(self, _request: Request) -> Response:
        engine = await self._service.engine()
        info = engine.info
        defaults = CompletionParams.of(Body({}), self._service)
        return JsonResponse(
            {
                "default_generation_settings": {
                    "id": 0,
                    "n_ctx": info.n_ctx,
                    "is_processing": engine.num_processing > 0,
                    "params": replace(defaults, is_streamed=True).to_json(),
                },
                "total_slots": info.num_slots,
                "model_alias": self._service.model_alias,
                "modalities": {"vision": False, "audio": False},
                "chat_template": info.chat_template or CHATML,
                "bos_token": info.bos_token,
                "eos_token": info.eos_token,
                "build_info": self._service.build_info,
                **self._service.props,
            }
        )


def _text_of(engine: "Engine", tokens: tuple[int, ...]) -> str:
    return engine.detokenize(tokens)


def _piece_json(piece: bytes) -> str | list[int]:
    """Return a piece as text, or as its bytes when it is a part of a character."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)
