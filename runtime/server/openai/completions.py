"""OpenAI's completions: texts to go on with."""

import asyncio
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.reader import AnswerReader
from runtime.checked import JsonObject, wrong
from runtime.engine.interface import AnyEngine
from runtime.engine.values.events import Finished, Progress, TextDelta, Timings, TokenProbs
from runtime.engine.values.request import GenerationRequest, Prompt
from runtime.errors import RequestError
from runtime.server.answering.generation import Generation
from runtime.server.answering.logprobs import parallel_json
from runtime.server.answering.responses import respond
from runtime.server.answering.scored import ScoredReader
from runtime.server.answering.streaming import TextFrame, frame
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import Flag, Integer, Special, Text, operation
from runtime.server.asking.infill import fill_tokens
from runtime.server.asking.prompts import MAX_PROMPTS, prompts_in, tokenize_prompt
from runtime.server.asking.sampling import MAX_PROBS, numbered_answer
from runtime.server.openai.params import COMMON_FIELDS, CommonParams
from runtime.server.openai.reply import ChoiceReply, Envelope, finish_reason
from runtime.server.service import Service

_PROMPT = Special("prompt", "A text, a list of token ids, or a list of such prompts.", {"type": ["string", "array"]})
_SUFFIX = Text("suffix", "Text after the gap that the answer fills, for models trained to fill gaps.")
_ECHO = Flag("echo", "Repeat the prompt before the answer, with its log-probabilities if they are asked for.")
_BEST_OF = Integer("best_of", "Generate this many answers and return the `n` likeliest.", low=1, high=MAX_PROMPTS)
_LOGPROBS = Integer("logprobs", "Report this many of the likeliest tokens beside each token.", low=0, high=MAX_PROBS)


@dataclass(frozen=True, slots=True)
class TextParams:
    """A parsed request, less its prompts."""

    common: CommonParams
    suffix: str
    is_echoed: bool
    num_tries: int  # for each prompt; the likeliest are its choices

    @classmethod
    def of(cls, body: JsonObject, service: Service) -> "TextParams":
        common = CommonParams.of(body, service, _LOGPROBS.value_in(body, None))
        params = cls(
            common,
            suffix=_SUFFIX.value_in(body, ""),
            is_echoed=_ECHO.value_in(body, False),
            num_tries=_BEST_OF.value_in(body, common.num_choices),
        )
        if params.num_tries < common.num_choices:
            raise wrong(_BEST_OF.name, "at least 'n'")
        if params.is_ranked and common.is_streamed:
            raise RequestError("the best of several answers can't be streamed; leave out 'stream'", _BEST_OF.name)
        if params.is_echoed and params.suffix:
            raise RequestError("a text with a gap can't be echoed; leave out 'echo' or 'suffix'", _ECHO.name)
        return params

    @property
    def is_ranked(self) -> bool:
        return self.num_tries > self.common.num_choices

    def requests(self, prompts: "list[EchoedPrompt]") -> Iterator[GenerationRequest]:
        """Yield a request for each try at each prompt. Raises RequestError when they are too many."""
        if len(prompts) * self.num_tries > MAX_PROMPTS:
            raise RequestError(f"these are more than {MAX_PROMPTS} answers in one request", "n")
        params = self.common.generation
        if self.is_ranked:  # by how likely their tokens were, which has to be known
            params = replace(params, sampling=replace(params.sampling, n_probs=max(params.sampling.n_probs, 1)))
        wants_prompt_probs = self.is_echoed and self.common.num_top_logprobs is not None
        params = replace(params, wants_prompt_probs=wants_prompt_probs)
        for prompt in prompts:
            for number in range(self.num_tries):
                yield GenerationRequest(Prompt(prompt.tokens), numbered_answer(params, number))

    def likeliest(self, tries: "list[TextReply]") -> "Iterator[TextReply]":
        """Yield of the tries at each prompt those whose tokens were the likeliest in the mean, best first."""
        for first in range(0, len(tries), self.num_tries):
            ranked = sorted(tries[first : first + self.num_tries], key=TextReply.mean_logprob, reverse=True)
            yield from ranked[: self.common.num_choices]


@dataclass(frozen=True, slots=True)
class EchoedPrompt:
    """A prompt to go on with; `echo` is its text where that is to be given, and `first_piece` its first token's."""

    tokens: tuple[int, ...]
    echo: str = ""
    first_piece: bytes = b""


@dataclass(frozen=True, slots=True)
class _Piece:
    """More of a text; `first_piece` is there with an echo, whose first token has no predecessor."""

    text: str
    probs: tuple[TokenProbs, ...]
    timings: Timings | None = None
    first_piece: bytes | None = None


class TextReply(ChoiceReply[_Piece]):
    def __init__(self, envelope: Envelope, index: int, num_choices: int, prompt: EchoedPrompt) -> None:
        super().__init__(envelope, index, num_choices)
        self._prompt = prompt
        self._reader = ScoredReader(AnswerReader(None, None))
        self._text_frame = TextFrame(envelope.chunk([self._choice(TextFrame.GAP)]))
        self._prompt_probs: tuple[TokenProbs, ...] = ()
        self._offset = 0  # in characters, of the text that is still to be framed

    def progress(self, progress: Progress) -> Iterable[_Piece | Progress | Finished]:
        self._prompt_probs += progress.probs
        return super().progress(progress) if self.envelope.params.generation.wants_progress else ()

    def take(self, delta: TextDelta) -> Iterable[_Piece]:
        yield from self._echo()
        for part in self._reader.take(delta):
            yield self._grown(_Piece(delta.text, part.probs, delta.timings))

    def end(self, finished: Finished) -> Iterable[_Piece | Progress | Finished]:
        yield from self._echo()
        yield finished

    def _echo(self) -> Iterator[_Piece]:
        """Yield the prompt: once, and as late as this because its probabilities are known by now."""
        if self._prompt.echo and not self._pieces:
            yield self._grown(_Piece(self._prompt.echo, self._prompt_probs, first_piece=self._prompt.first_piece))

    def whole(self) -> dict[str, Any]:
        text = "".join(piece.text for piece in self._pieces)
        first_piece = self._pieces[0].first_piece if self._pieces else None
        logprobs = self._logprobs(self._probs(), 0, first_piece)
        return {**self._choice(text, finish_reason(self.finished)), "logprobs": logprobs}

    def mean_logprob(self) -> float:
        probs = self._probs()
        return sum(each.logprob for each in probs) / len(probs) if probs else -math.inf

    def _probs(self) -> list[TokenProbs]:
        return [each for piece in self._pieces for each in piece.probs]

    def _piece_frames(self, piece: _Piece) -> Iterable[bytes]:
        if self.envelope.params.num_top_logprobs is None and piece.timings is None:
            yield self._text_frame.with_text(piece.text)
            return
        logprobs = self._logprobs(piece.probs, self._offset, piece.first_piece)
        if logprobs is not None:
            self._offset += sum(map(len, logprobs["tokens"]))
        yield frame(self.envelope.chunk([{**self._choice(piece.text), "logprobs": logprobs}], piece.timings))

    def _last_choice(self) -> dict[str, Any]:
        return self._choice("", finish_reason(self.finished))

    def _empty_choice(self) -> dict[str, Any]:
        return self._choice("")

    def _choice(self, text: str, reason: str | None = None) -> dict[str, Any]:
        return {"index": self.index, "text": text, "logprobs": None, "finish_reason": reason}

    def _logprobs(self, probs: Sequence[TokenProbs], offset: int, first_piece: bytes | None) -> dict[str, Any] | None:
        num_top = self.envelope.params.num_top_logprobs
        return None if num_top is None else parallel_json(probs, num_top, offset, first_piece=first_piece)


class OpenAICompletions:
    """The endpoint."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("Go on with texts", _PROMPT, _SUFFIX, _ECHO, _BEST_OF, _LOGPROBS, *COMMON_FIELDS, required=("prompt",))
    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        params = await body.read(TextParams.of, self._service)
        if _PROMPT.name not in body:
            raise body.missing(_PROMPT.name)
        given = prompts_in(body.raw(_PROMPT.name))
        engine = await self._service.engine()
        prompts = [await _read_prompt(engine, each, params) for each in given]
        generations = await Generation.begin_all(request, engine, list(params.requests(prompts)))
        envelope = Envelope(
            params.common,
            self._service.build_info,
            num_prompts=len(prompts),
            id_prefix="cmpl",
            whole_object="text_completion",
            chunk_object="text_completion",
        )
        num_choices = len(prompts) * params.common.num_choices
        replies = [
            TextReply(envelope, index, num_choices, prompts[index // params.num_tries])
            for index in range(len(generations))
        ]
        parts = list(zip(generations, replies, strict=True))

        def whole() -> object:
            chosen = params.likeliest(replies) if params.is_ranked else replies
            choices = [{**reply.whole(), "index": index} for index, reply in enumerate(chosen)]
            return envelope.whole(choices, [reply.finished for reply in replies])

        return await respond(request, parts, whole, is_streamed=params.common.is_streamed)


async def _read_prompt(engine: AnyEngine, given: object, params: TextParams) -> EchoedPrompt:
    if params.suffix:
        if not isinstance(given, str):
            raise RequestError("with a 'suffix', each prompt must be a text", _PROMPT.name)
        if engine.vocabulary.fill_tokens is None:
            raise RequestError("this model wasn't trained to fill gaps; leave out 'suffix'", _SUFFIX.name)
        max_tokens = params.common.generation.max_tokens
        return EchoedPrompt(await asyncio.to_thread(fill_tokens, engine, given, params.suffix, max_tokens=max_tokens))
    tokens = await tokenize_prompt(engine, given)
    if not params.is_echoed or not tokens:
        return EchoedPrompt(tokens)
    echo = given if isinstance(given, str) else await asyncio.to_thread(engine.vocabulary.detokenize, tokens)
    return EchoedPrompt(tokens, echo, engine.vocabulary.piece(tokens[0]))
