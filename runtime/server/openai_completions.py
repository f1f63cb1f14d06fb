"""OpenAI's completions: a text to go on with."""

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.engine.sequence import Finished, TextDelta, TokenProbs
from runtime.errors import RequestError
from runtime.server.body import read_body
from runtime.server.generation import Answer, Generation
from runtime.server.logprobs import HeldProbs, parallel_json
from runtime.server.openai_params import CommonParams
from runtime.server.openai_reply import Envelope, Reply, finish_reason, respond
from runtime.server.parameters import read_num_logprobs, tokenize_prompt
from runtime.server.service import Service
from runtime.server.streaming import TextFrame, frame

# Not built yet; beside each, the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {"best_of": (1,), "echo": (False,), "suffix": ("",)}


class TextReply(Reply):
    def __init__(self, envelope: Envelope, index: int, num_choices: int) -> None:
        super().__init__(envelope, index, num_choices)
        self._delta_frame = TextFrame(envelope.chunk([self._choice(TextFrame.GAP)]))
        self._held_probs = HeldProbs()
        self._offset = 0  # in characters, of the text that is still to come

    def delta(self, delta: TextDelta) -> Iterable[bytes]:
        if self.envelope.params.num_top_logprobs is None:
            return (self._delta_frame.with_text(delta.text),) if delta.text else ()
        probs = self._held_probs.shown_with(delta)
        if not delta.text:
            return ()
        return (frame(self.envelope.chunk([self._choice(delta.text, probs=probs)])),)

    def whole_choice(self, answer: Answer) -> dict[str, Any]:
        return self._choice(answer.text, finish_reason(answer.finished), answer.probs)

    def _last_choice(self, finished: Finished) -> dict[str, Any]:
        return self._choice("", finish_reason(finished))

    def _choice(self, text: str, reason: str | None = None, probs: tuple[TokenProbs, ...] = ()) -> dict[str, Any]:
        return {"index": self.index, "text": text, "logprobs": self._logprobs(probs), "finish_reason": reason}

    def _logprobs(self, probs: tuple[TokenProbs, ...]) -> dict[str, Any] | None:
        num_top = self.envelope.params.num_top_logprobs
        if num_top is None or not probs:
            return None
        shown = parallel_json(probs, num_top, self._offset)
        self._offset += sum(map(len, shown["tokens"]))
        return shown


class OpenAICompletions:
    """The endpoint."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        for name, harmless in _UNSUPPORTED.items():
            body.refuse(name, but=harmless)
        params = CommonParams.of(body, self._service, read_num_logprobs(body) if "logprobs" in body else None)
        if "prompt" not in body:
            raise RequestError("'prompt' is missing", "prompt")
        engine = await self._service.engine()
        tokens = await tokenize_prompt(engine, body.raw("prompt"))
        generations = await Generation.begin_all(engine, list(params.choices(params.request(tokens))))
        envelope = Envelope(
            params,
            self._service.build_info,
            id_prefix="cmpl",
            whole_object="text_completion",
            chunk_object="text_completion",
        )
        num_choices = len(generations)
        return await respond(request, generations, [TextReply(envelope, n, num_choices) for n in range(num_choices)])
