"""llama.cpp's native dialect, as llama-server and llamafile's server speak it: texts, tokens and templates.

Field names and shapes are those of llama.cpp's `tools/server/README.md`.
"""

import asyncio
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.infill import Snippet
from runtime.chat.turn import prompt_of
from runtime.checked import JsonObject, elements, wrong
from runtime.engine.interface import AnyEngine, AnyVocabulary
from runtime.engine.values.request import Prompt
from runtime.server.answering.generation import Generation
from runtime.server.answering.responses import JsonResponse, respond
from runtime.server.answering.streaming import to_json
from runtime.server.asking.body import read_body
from runtime.server.asking.conversation import CONVERSATION_FIELDS, MESSAGES, read_conversation
from runtime.server.asking.fields import OBJECTS, Flag, Special, Text, operation
from runtime.server.asking.infill import fill_tokens
from runtime.server.asking.prompts import is_token, read_prompts
from runtime.server.asking.threads import in_thread
from runtime.server.llamacpp.completion import ANSWER_FIELDS, CompletionParams, CompletionReply, PendingAnswer
from runtime.server.service import Service

_PROMPT = Special(
    "prompt",
    "A text, a list of token ids, a list that mixes both, or a list of such prompts.",
    {"type": ["string", "array", "object"]},
)
_INPUT_PREFIX = Text("input_prefix", "Text before the gap.")
_INPUT_SUFFIX = Text("input_suffix", "Text after the gap.")
_INPUT_EXTRA = Special("input_extra", "Pieces of other files, as objects with text and filename.", OBJECTS)
_MIDDLE = Text("prompt", "Text that the answer begins with.")
_CONTENT = Text("content", "The text.")
_ADD_SPECIAL = Flag("add_special", "Add the tokens that the model wants at the beginning, such as BOS.")
_PARSE_SPECIAL = Flag("parse_special", "Read the names of special tokens as those tokens.")
_WITH_PIECES = Flag("with_pieces", "Return each token's text beside its id.")
_MOST_TOKENS = 2**18  # of one text; each may stand for hundreds of bytes
_WRITTEN_AT_ONCE = 8192  # some milliseconds
_TOKENS = Special("tokens", "Token ids.", {"type": "array", "items": {"type": "integer"}})


class LlamaCpp:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("Go on with a text", _PROMPT, *ANSWER_FIELDS, required=("prompt",))
    async def completion(self, request: Request) -> Response:
        body = await read_body(request)
        params = await body.read(CompletionParams.of, self._service)
        if _PROMPT.name not in body:
            raise body.missing(_PROMPT.name)
        engine = await self._service.engine()
        return await self._answer(request, params, engine, await read_prompts(engine, body.raw(_PROMPT.name)))

    @operation(
        "Fill the gap between two texts",
        *(_INPUT_PREFIX, _INPUT_SUFFIX, _INPUT_EXTRA, _MIDDLE, *ANSWER_FIELDS),
        required=("input_prefix", "input_suffix"),
    )
    async def infill(self, request: Request) -> Response:
        body = await read_body(request)
        params = await body.read(CompletionParams.of, self._service)
        prefix, suffix = (_required(declared, body) for declared in (_INPUT_PREFIX, _INPUT_SUFFIX))
        beginning = _MIDDLE.value_in(body, "")
        snippets = await body.read(_snippets)
        engine = await self._service.engine()
        tokens = await in_thread(
            body.num_bytes,
            fill_tokens,
            engine,
            prefix,
            suffix,
            snippets=snippets,
            beginning=beginning,
            max_tokens=params.generation.max_tokens,
        )
        return await self._answer(request, params, engine, [Prompt(tokens)])

    async def _answer(
        self, request: Request, params: CompletionParams, engine: AnyEngine, prompts: list[Prompt]
    ) -> Response:
        requests = list(params.requests(prompts))
        forbidden = (
            await asyncio.to_thread(lambda: engine.vocabulary.end_tokens) if params.generation.ignore_eos else ()
        )
        generations = await Generation.begin_all(request, engine, requests)
        model = self._service.model_alias
        texts = [cache(partial(engine.vocabulary.detokenize, prompt.text_tokens)) for prompt in prompts]
        replies = [
            CompletionReply(
                params, PendingAnswer(each, index, texts[index // params.num_answers], forbidden, model, engine.info)
            )
            for index, each in enumerate(requests)
        ]
        parts = list(zip(generations, replies, strict=True))

        def whole() -> object:
            wholes = [reply.whole() for reply in replies]
            return wholes[0] if len(wholes) == 1 else wholes

        return await respond(request, parts, whole, is_streamed=params.is_streamed)

    @operation(
        "Messages to the prompt that the model's chat template makes of them",
        *CONVERSATION_FIELDS,
        required=(MESSAGES.name,),
    )
    async def apply_template(self, request: Request) -> Response:
        body = await read_body(request)
        conversation = await body.read(read_conversation, self._service.chat)
        engine = await self._service.engine()
        return await in_thread(body.num_bytes, lambda: JsonResponse({"prompt": prompt_of(engine, conversation)}))

    @operation("A text to token ids", _CONTENT, _ADD_SPECIAL, _PARSE_SPECIAL, _WITH_PIECES)
    async def tokenize(self, request: Request) -> Response:
        body = await read_body(request)
        add_special = _ADD_SPECIAL.value_in(body, False)
        parse_special = _PARSE_SPECIAL.value_in(body, True)
        with_pieces = _WITH_PIECES.value_in(body, False)
        text = _CONTENT.value_in(body, "")
        vocabulary = (await self._service.engine()).vocabulary

        def answer() -> Response:
            tokens = vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)
            if not with_pieces:
                return JsonResponse({"tokens": tokens})
            spans = (tokens[start : start + _WRITTEN_AT_ONCE] for start in range(0, len(tokens), _WRITTEN_AT_ONCE))
            written = ",".join(to_json([_token_json(vocabulary, each) for each in span])[1:-1] for span in spans)
            return Response(f'{{"tokens":[{written}]}}', media_type=JsonResponse.media_type)

        return await in_thread(body.num_bytes, answer)

    @operation("Token ids to a text", _TOKENS)
    async def detokenize(self, request: Request) -> Response:
        body = await read_body(request)
        tokens = body.raw(_TOKENS.name) or []
        if not isinstance(tokens, list) or len(tokens) > _MOST_TOKENS or not all(map(is_token, tokens)):
            raise wrong(_TOKENS.name, f"a list of at most {_MOST_TOKENS:,} token ids")
        engine = await self._service.engine()
        return await in_thread(body.num_bytes, lambda: JsonResponse({"content": engine.vocabulary.detokenize(tokens)}))


def _required(declared: Text, body: JsonObject) -> str:
    value = declared.value_in(body, None)
    if value is None:
        raise body.missing(declared.name)
    return value


def _snippets(body: JsonObject) -> tuple[Snippet, ...]:
    value, wanted = body.raw(_INPUT_EXTRA.name), "a list of objects with 'text' and 'filename'"
    return tuple(_snippet(*each) for each in elements([] if value is None else value, _INPUT_EXTRA.name, wanted))


def _snippet(value: Any, param: str) -> Snippet:
    text = value.get("text") if isinstance(value, Mapping) else None
    filename = value.get("filename", "tmp") if isinstance(value, Mapping) else None
    if not isinstance(text, str) or not isinstance(filename, str):
        raise wrong(param, "an object with a text in 'text', and one in 'filename' if any")
    return Snippet(text, filename)


def _token_json(vocabulary: AnyVocabulary, token: int) -> dict[str, Any]:
    return {"id": token, "piece": _piece_json(vocabulary.piece(token))}


def _piece_json(piece: bytes) -> str | list[int]:
    """Return a piece as text, or as its bytes when it is a part of a character."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)
