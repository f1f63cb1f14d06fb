"""Ollama's dialect: generate, chat, and vectors of texts. What else Ollama's clients ask for is in `models`.

Where `stream` is absent the answer is streamed, a line of JSON for each piece. `model` may be any name, since there is
one model, which stays in memory: `keep_alive` is read, and changes nothing.
"""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from runtime.engine.interface import AnyEngine
from runtime.engine.values.embedding import normalized
from runtime.errors import TextTooLong, TooManyTokens
from runtime.server.answering.generation import Generation
from runtime.server.answering.preparing import prepared
from runtime.server.answering.responses import JsonResponse, LineStream, respond
from runtime.server.answering.vectors import EUCLIDEAN, MAX_TEXTS, one_vector_each
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import OBJECTS, Flag, Integer, Special, Text, Texts, operation
from runtime.server.asking.prompts import check_total
from runtime.server.asking.sampling import MODEL
from runtime.server.asking.threads import in_thread
from runtime.server.asking.tools import parse_tools
from runtime.server.ollama.messages import MESSAGES, read_messages
from runtime.server.ollama.params import ANSWER_FIELDS, KEEP_ALIVE, OPTIONS, OllamaParams
from runtime.server.ollama.prompts import PROMPT_FIELDS, Prepared, Prompt, prepare_chat
from runtime.server.ollama.reply import ChatReply, Clock, GenerateReply, OllamaReply
from runtime.server.service import Service

_TOOLS = Special("tools", "Functions that the model may call.", OBJECTS)
_INPUT = Texts("input", "A text or a list of texts.", most=MAX_TEXTS)
_TRUNCATE = Flag("truncate", "Cut texts that are too long, which is the default; false: refuse them.")
_DIMENSIONS = Integer("dimensions", "Return only the first numbers of each vector, scaled to length 1 again.", low=1)
_TEXT = Text("prompt", "The text.")
_MOST_CHARS_A_TOKEN = 32  # in the mean of any text; what follows is cut off unread


class Ollama:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("Go on with a prompt, as Ollama", *ANSWER_FIELDS, *PROMPT_FIELDS)
    async def generate(self, request: Request) -> Response:
        clock = Clock()
        body = await read_body(request)
        params = await body.read(OllamaParams.of, self._service)
        prompt = await body.read(Prompt.of)
        engine = await self._engine(clock)
        if prompt.is_empty:
            return JsonResponse(GenerateReply(params, clock).loaded())
        asked = await in_thread(body.num_bytes, prompt.prepare, engine, params)
        tokens = asked.request.prompt.tokens if prompt.can_be_gone_on_with else None
        return await _answer(request, engine, asked, GenerateReply(params, clock, asked.reader, tokens))

    @operation("The next message of a conversation, as Ollama", *ANSWER_FIELDS, MESSAGES, _TOOLS)
    async def chat(self, request: Request) -> Response:
        clock = Clock()
        body = await read_body(request)
        params = await body.read(OllamaParams.of, self._service)
        messages = await body.read(lambda given: read_messages(given.raw(MESSAGES.name)))
        tools = await body.read(lambda given: parse_tools(given.raw(_TOOLS.name), _TOOLS.name))
        engine = await self._engine(clock)
        if not messages:
            return JsonResponse(ChatReply(params, clock).loaded())
        work = partial(prepare_chat, engine, params, messages, tools)
        asked = await prepared(request, work, size=body.num_bytes)
        return await _answer(request, engine, asked, ChatReply(params, clock, asked.reader))

    @operation("Texts to vectors, as Ollama", MODEL, _INPUT, _TRUNCATE, _DIMENSIONS, OPTIONS, KEEP_ALIVE)
    async def embed(self, request: Request) -> Response:
        clock = Clock()
        body = await read_body(request)
        texts = [] if body.raw(_INPUT.name) == "" else list(await body.read(_INPUT.value_in))
        is_cut = _TRUNCATE.value_in(body, True)
        num_dimensions = _DIMENSIONS.value_in(body, None)
        tokens, vectors = await self._vectors(request, clock, texts, is_cut=is_cut)
        return JsonResponse(
            {
                "model": MODEL.value_in(body, "") or self._service.model_alias,
                "embeddings": [normalized(vector[:num_dimensions], EUCLIDEAN) for vector in vectors],
                **clock.durations(),
                "prompt_eval_count": sum(map(len, tokens)),
            }
        )

    @operation("A text to a vector, as Ollama did it before", MODEL, _TEXT, OPTIONS, KEEP_ALIVE)
    async def embeddings(self, request: Request) -> Response:
        """Give one vector in the shape that `/api/embed` followed: as the model made it, not of length 1."""
        body = await read_body(request)
        prompt = _TEXT.value_in(body, "")
        _tokens, vectors = await self._vectors(request, Clock(), [prompt] if prompt else [], is_cut=True)
        return JsonResponse({"embedding": vectors[0] if vectors else []})

    async def _engine(self, clock: Clock) -> AnyEngine:
        engine = await self._service.engine()
        clock.model_is_there()
        return engine

    async def _vectors(
        self, request: Request, clock: Clock, texts: list[str], *, is_cut: bool
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return each text's tokens and vector. Texts that are too long are cut, or refused."""
        engine = await self._engine(clock)

        tokens = await in_thread(sum(map(len, texts)), _tokenized, engine, texts, is_cut=is_cut)
        return tokens, await one_vector_each(request, engine, tokens, "input")


def _tokenized(engine: AnyEngine, texts: list[str], *, is_cut: bool) -> list[list[int]]:
    """Return the tokens of texts that are to become vectors. Blocks; call from a thread."""
    most = engine.max_text_tokens
    tokenized: list[list[int]] = []
    for index, text in enumerate(texts):
        begun = text[: _MOST_CHARS_A_TOKEN * most] if is_cut else text
        try:
            tokens = engine.vocabulary.tokenize(begun, add_special=True, parse_special=False, max_tokens=most)
        except TooManyTokens as refusal:
            raise TextTooLong(_INPUT.name, index, refusal.num_tokens, most, is_counted=False) from None
        tokenized.append(tokens[:most] if is_cut else tokens)
        check_total(tokenized, _INPUT.name)
    return tokenized


async def _answer(request: Request, engine: AnyEngine, prepared: Prepared, reply: OllamaReply) -> Response:
    generation = await Generation.begin(request, engine, prepared.request)
    return await respond(request, [(generation, reply)], reply.whole, is_streamed=reply.is_streamed, stream=LineStream)
