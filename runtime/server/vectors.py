"""Texts to vectors over HTTP, and ranking by them: one computation, and the shapes that clients know it in.

`/v1/embeddings` is OpenAI's, `/embeddings` llama-server's of today, `/embedding` that of llamafile's server, which
LangChain's and LlamaIndex's Llamafile clients still read. `/rerank` speaks Jina's shape and, to who sends `texts`,
that of Hugging Face's text-embeddings-inference.
"""

import array
import asyncio
import base64
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.engine.embedding import EmbeddingJob, Vectors, normalized
from runtime.engine.facts import Pooling
from runtime.errors import RequestError
from runtime.server.body import Body, read_body
from runtime.server.errors import NotOffered
from runtime.server.fields import Flag, Integer, Special, Text, operation
from runtime.server.generation import while_connected
from runtime.server.parameters import tokenize_prompts
from runtime.server.responses import JsonResponse
from runtime.server.service import Service

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

_MAX_TEXTS = 2048  # OpenAI's limit
_EUCLIDEAN = 2
_ANY = {"type": ["string", "array"]}

_INPUT = Special("input", "A text, a list of token ids, or a list of either.", _ANY)
_CONTENT = Special("content", "Another name for input.", _ANY)
_ENCODING_FORMAT = Special("encoding_format", "float, or base64 of 32-bit floats.", {"enum": ["float", "base64"]})
_DIMENSIONS = Integer("dimensions", "Give only so many of a vector's numbers, at length 1 again.", low=1)
_NORMALIZE = Integer("embd_normalize", "-1 none, 0 largest, 1 taxicab, 2 Euclidean, others p-norm.", low=-1, high=64)
_QUERY = Text("query", "What the documents are to be about.")
_DOCUMENTS = Special("documents", "The texts to rank.", {"type": "array"})
_TEXTS = Special("texts", "Another name for documents; asks for the shape of text-embeddings-inference.", _ANY)
_TOP_N = Integer("top_n", "Give only the best of so many.", low=0)
_RETURN_TEXT = Flag("return_text", "Give each text, too.")


class Embeddings:
    """The endpoints that give vectors."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("Texts to vectors, as OpenAI's API", _INPUT, _ENCODING_FORMAT, _DIMENSIONS, required=("input",))
    async def openai(self, request: Request) -> Response:
        body = await read_body(request)
        is_base64 = _read_is_base64(body)
        engine = await self._service.engine()
        num_dimensions = _DIMENSIONS.read(body, engine.info.n_embd)
        if num_dimensions > engine.info.n_embd:
            raise RequestError(f"'dimensions' can be at most {engine.info.n_embd} with this model", "dimensions")
        texts = await _tokenized(engine, body)
        vectors = [normalized(v[:num_dimensions], _EUCLIDEAN) for v in await _one_each(request, engine, texts)]
        data = [
            {"object": "embedding", "index": index, "embedding": _to_base64(vector) if is_base64 else vector}
            for index, vector in enumerate(vectors)
        ]
        return JsonResponse(
            {
                "object": "list",
                "data": data,
                "model": body.text("model") or self._service.model_alias,
                "usage": _usage(texts),
            }
        )

    @operation("Texts to vectors, as llama-server", _INPUT, _CONTENT, _NORMALIZE, _ENCODING_FORMAT)
    async def llamacpp(self, request: Request) -> Response:
        body = await read_body(request)
        is_base64 = _read_is_base64(body)
        kind = _NORMALIZE.read(body, _EUCLIDEAN)
        engine = await self._service.engine()
        results = await _computed(request, engine, await _tokenized(engine, body))
        # The vectors of single tokens are given as they are, as in llama-server.
        kind = -1 if engine.pooling is Pooling.NONE else kind
        shown = [[normalized(vector, kind) for vector in vectors] for vectors in results]
        return JsonResponse(
            [
                {"index": index, "embedding": list(map(_to_base64, vectors)) if is_base64 else vectors}
                for index, vectors in enumerate(shown)
            ]
        )

    @operation("Texts to vectors, as llamafile's server", _CONTENT, _INPUT)
    async def llamafile(self, request: Request) -> Response:
        body = await read_body(request)
        engine = await self._service.engine()
        given = _given(body)
        vectors = await _one_each(request, engine, await _tokenized(engine, body))
        told = [{"embedding": normalized(vector, _EUCLIDEAN)} for vector in vectors]
        is_one = isinstance(given, str) or (isinstance(given, list) and all(isinstance(item, int) for item in given))
        return JsonResponse(told[0] if is_one else {"results": told})


class Rerank:
    """The endpoint that ranks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation(
        "Documents ranked by how well they fit a query",
        *(_QUERY, _DOCUMENTS, _TEXTS, _TOP_N, _RETURN_TEXT),
        required=("query",),
    )
    async def rank(self, request: Request) -> Response:
        body = await read_body(request)
        query = _QUERY.read(body, None)
        if query is None:
            raise RequestError("'query' is missing", _QUERY.name)
        is_tei = _TEXTS.name in body
        name = _TEXTS.name if is_tei else _DOCUMENTS.name
        documents = _read_documents(body, name)
        engine = await self._service.engine()
        if engine.pooling is not Pooling.RANK:
            raise NotOffered("this model wasn't trained to rank; use a reranking model")
        texts = await asyncio.to_thread(lambda: [_rank_prompt(engine, query, document) for document in documents])
        scores = [vectors[0][0] for vectors in await _computed(request, engine, texts)]
        best = sorted(range(len(documents)), key=lambda index: -scores[index])[: _TOP_N.read(body, len(documents))]
        if is_tei:
            with_text = _RETURN_TEXT.read(body, False)
            told = [{"index": i, "score": scores[i], **({"text": documents[i]} if with_text else {})} for i in best]
            return JsonResponse(told)
        return JsonResponse(
            {
                "model": body.text("model") or self._service.model_alias,
                "object": "list",
                "usage": _usage(texts),
                "results": [{"index": index, "relevance_score": scores[index]} for index in best],
            }
        )


def _given(body: Body) -> Any:
    given = body.raw(_INPUT.name)
    return body.raw(_CONTENT.name) if given is None else given


async def _tokenized(engine: "Engine", body: Body) -> list[tuple[int, ...]]:
    given = _given(body)
    if given is None:
        raise RequestError("'input' is missing", _INPUT.name)
    return await tokenize_prompts(engine, given, _INPUT.name, at_most=_MAX_TEXTS)


async def _one_each(request: Request, engine: "Engine", texts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return a vector for each text. Raises RequestError where the model gives one for each token, or a rank."""
    if engine.pooling in (Pooling.NONE, Pooling.RANK):
        raise RequestError(f"with --pooling {engine.pooling.name.lower()} there is no one vector for a text", "input")
    return [vectors[0] for vectors in await _computed(request, engine, texts)]


async def _computed(request: Request, engine: "Engine", texts: Sequence[Sequence[int]]) -> list[Vectors]:
    """Return what the texts became. Raises what the engine failed with, or ClientDisconnect."""
    answer: asyncio.Future[EmbeddingJob | Exception] = asyncio.get_running_loop().create_future()

    def hear(outcome: EmbeddingJob | Exception) -> None:
        if not answer.done():  # who asked may be gone by now
            answer.set_result(outcome)

    async def wait() -> EmbeddingJob | Exception:
        return await answer

    job = EmbeddingJob(texts, hear)
    engine.embed(job)
    try:
        outcome = await while_connected(request.receive, wait())
    finally:
        job.is_cancelled = True
    if isinstance(outcome, Exception):
        raise outcome
    return outcome.results


def _read_is_base64(body: Body) -> bool:
    wanted = body.text(_ENCODING_FORMAT.name) or "float"
    if wanted not in ("float", "base64"):
        raise RequestError("'encoding_format' must be float or base64", _ENCODING_FORMAT.name)
    return wanted == "base64"


def _to_base64(vector: list[float]) -> str:
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode("ascii")


def _usage(texts: Sequence[Sequence[int]]) -> dict[str, int]:
    num_tokens = sum(map(len, texts))
    return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def _read_documents(body: Body, name: str) -> tuple[str, ...]:
    documents = body.texts(name)
    if not documents:
        raise RequestError(f"'{name}' must be a list of at least one text", name)
    if len(documents) > _MAX_TEXTS:
        raise RequestError(f"'{name}' holds {len(documents)} texts; at most {_MAX_TEXTS} go into a request", name)
    return documents


def _rank_prompt(engine: "Engine", query: str, document: str) -> list[int]:
    """Return what a ranking model reads: its own template filled in, else both texts between its special tokens."""
    template = engine.info.rerank_template
    if template is None:
        return engine.pair(query, document)
    filled = template.replace("{query}", query).replace("{document}", document)
    return engine.tokenize(filled, add_special=False, parse_special=True)
