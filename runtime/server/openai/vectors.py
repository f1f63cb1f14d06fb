"""Texts to vectors over HTTP, and ranking by them: one computation, and the shapes that clients know it in.

`/v1/embeddings` is OpenAI's, `/embeddings` llama-server's of today, `/embedding` that of llamafile's server, which
LangChain's and LlamaIndex's Llamafile clients still read. `/rerank` speaks Jina's shape and, to who sends `texts`,
that of Hugging Face's text-embeddings-inference.
"""

import array
import base64
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from runtime.chat.control_names import control_names
from runtime.chat.prompt_text import tokens_of
from runtime.checked import JsonObject, wrong
from runtime.engine.interface import AnyEngine
from runtime.engine.values.embedding import normalized
from runtime.engine.values.facts import Pooling
from runtime.errors import RequestError, TooManyTokens
from runtime.server.answering.responses import JsonResponse
from runtime.server.answering.vectors import MAX_TEXTS, computed_vectors, no_vectors, one_vector_each
from runtime.server.asking.body import read_body
from runtime.server.asking.fields import Flag, Integer, Special, Text, operation
from runtime.server.asking.prompts import check_total, is_token, tokenize_prompts
from runtime.server.asking.threads import in_thread
from runtime.server.refusals import NotOffered
from runtime.server.service import Service

_ANY = {"type": ["string", "array"]}

_INPUT = Special("input", "A text, a list of token ids, or a list of either.", _ANY)
_CONTENT = Special("content", "Another name for input.", _ANY)
_ENCODING_FORMAT = Special("encoding_format", "float, or base64 of 32-bit floats.", {"enum": ["float", "base64"]})
_DIMENSIONS = Integer("dimensions", "Return only the first numbers of each vector, scaled to length 1 again.", low=1)
_NORMALIZE = Integer(
    "embd_normalize",
    "Norm that vectors are divided by: -1 none, 0 maximum, 1 taxicab, 2 Euclidean, else p.",
    low=-1,
    high=1000,
)
_QUERY = Text("query", "The text that documents are ranked by.")
_DOCUMENTS = Special("documents", "The texts to rank.", {"type": "array"})
_TEXTS = Special("texts", "Another name for documents; asks for the shape of text-embeddings-inference.", _ANY)
_TOP_N = Integer("top_n", "Return only this many documents, the best first.", low=0)
_RETURN_TEXT = Flag("return_text", "Return each text beside its score.")
_RETURN_DOCUMENTS = Flag("return_documents", "Return each document beside its score, in Jina's shape.")
_PLACEHOLDER = re.compile(r"{query}|{document}")
_OPENAI_FIELDS = (_ENCODING_FORMAT, _DIMENSIONS, _NORMALIZE)


class Embeddings:
    """The endpoints that give vectors."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation("Texts to vectors, as OpenAI's API", _INPUT, *_OPENAI_FIELDS, required=("input",))
    async def openai(self, request: Request) -> Response:
        body = await read_body(request)
        is_base64 = _read_is_base64(body)
        kind = _NORMALIZE.value_in(body, self._service.embd_normalize)
        engine = await self._service.engine()
        num_dimensions = _DIMENSIONS.value_in(body, engine.info.n_embd)
        if num_dimensions > engine.info.n_embd:
            raise RequestError(f"'dimensions' can be at most {engine.info.n_embd} with this model", "dimensions")
        name = _name_of_input(body)
        texts = await _tokenized(engine, body, name)
        vectors = [normalized(v[:num_dimensions], kind) for v in await one_vector_each(request, engine, texts, name)]
        data = [
            {"object": "embedding", "index": index, "embedding": _to_base64(vector) if is_base64 else vector}
            for index, vector in enumerate(vectors)
        ]
        return JsonResponse(
            {
                "object": "list",
                "data": data,
                "model": body.text("model", None) or self._service.model_alias,
                "usage": _usage(texts),
            }
        )

    @operation("Texts to vectors, as llama-server", _INPUT, _CONTENT, _NORMALIZE, _ENCODING_FORMAT)
    async def llamacpp(self, request: Request) -> Response:
        body = await read_body(request)
        is_base64 = _read_is_base64(body)
        kind = _NORMALIZE.value_in(body, self._service.embd_normalize)
        engine = await self._service.engine()
        if engine.pooling is Pooling.RANK:
            raise no_vectors(engine, _name_of_input(body))
        name = _name_of_input(body)
        results = await computed_vectors(request, engine, await _tokenized(engine, body, name), name)
        # The vectors of single tokens are given as they are, as in llama-server.
        kind = -1 if engine.pooling is Pooling.NONE else kind
        shown = [[normalized(vector, kind) for vector in vectors] for vectors in results]
        return JsonResponse(
            [
                {"index": index, "embedding": list(map(_to_base64, vectors)) if is_base64 else vectors}
                for index, vectors in enumerate(shown)
            ]
        )

    @operation("Texts to vectors, as llamafile's server", _CONTENT, _INPUT, _NORMALIZE)
    async def llamafile(self, request: Request) -> Response:
        body = await read_body(request)
        kind = _NORMALIZE.value_in(body, self._service.embd_normalize)
        engine = await self._service.engine()
        name = _name_of_input(body)
        vectors = await one_vector_each(request, engine, await _tokenized(engine, body, name), name)
        reported = [{"embedding": normalized(vector, kind)} for vector in vectors]
        given = body.raw(name)
        is_one = not isinstance(given, list) or any(map(is_token, given))
        return JsonResponse(reported[0] if is_one else {"results": reported})


class Rerank:
    """The endpoint that ranks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @operation(
        "Documents ranked by how well they fit a query",
        *(_QUERY, _DOCUMENTS, _TEXTS, _TOP_N, _RETURN_TEXT, _RETURN_DOCUMENTS),
        required=("query",),
    )
    async def rank(self, request: Request) -> Response:
        body = await read_body(request)
        query = _QUERY.value_in(body, None)
        if query is None:
            raise body.missing(_QUERY.name)
        is_tei = _TEXTS.name in body
        name = _TEXTS.name if is_tei else _DOCUMENTS.name
        documents = await body.read(_read_documents, name)
        engine = await self._service.engine()
        if not engine.can_rank:
            raise NotOffered("this model wasn't trained to rank; use a reranking model, without another --pooling")
        prompts_of = partial(
            _rank_prompts, engine, query, documents, name, parses_special=self._service.chat.parses_special
        )
        texts = await in_thread(body.num_bytes, prompts_of)
        scores = [vectors[0][0] for vectors in await computed_vectors(request, engine, texts, name)]
        best = sorted(range(len(documents)), key=lambda index: -scores[index])[: _TOP_N.value_in(body, len(documents))]
        if is_tei:
            with_text = _RETURN_TEXT.value_in(body, False)
            reported = [{"index": i, "score": scores[i], **({"text": documents[i]} if with_text else {})} for i in best]
            return JsonResponse(reported)
        with_text = _RETURN_DOCUMENTS.value_in(body, False)
        results = [
            {"index": i, "relevance_score": scores[i], **({"document": {"text": documents[i]}} if with_text else {})}
            for i in best
        ]
        return JsonResponse(
            {
                "model": body.text("model", None) or self._service.model_alias,
                "object": "list",
                "usage": _usage(texts),
                "results": results,
            }
        )


def _name_of_input(body: JsonObject) -> str:
    return _INPUT.name if _INPUT.name in body or _CONTENT.name not in body else _CONTENT.name


async def _tokenized(engine: AnyEngine, body: JsonObject, name: str) -> list[tuple[int, ...]]:
    if name not in body:
        raise body.missing(name)
    return await tokenize_prompts(engine, body.raw(name), name, at_most=MAX_TEXTS)


def _read_is_base64(body: JsonObject) -> bool:
    wanted = body.text(_ENCODING_FORMAT.name, None) or "float"
    if wanted not in ("float", "base64"):
        raise wrong(_ENCODING_FORMAT.name, "float or base64")
    return wanted == "base64"


def _to_base64(vector: list[float]) -> str:
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode("ascii")


def _usage(texts: Sequence[Sequence[int]]) -> dict[str, int]:
    num_tokens = sum(map(len, texts))
    return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def _read_documents(body: JsonObject, name: str) -> tuple[str, ...]:
    """Return the texts to rank; Jina's clients may send each as an object with `text`."""
    given = body.raw(name)
    if not isinstance(given, list) or not given:
        raise wrong(name, "a list of at least one text")
    if len(given) > MAX_TEXTS:
        raise RequestError(f"'{name}' holds {len(given)} texts; at most {MAX_TEXTS} go into a request", name)
    texts = [item.get("text") if isinstance(item, dict) else item for item in given]
    documents = tuple(text for text in texts if isinstance(text, str))
    if len(documents) < len(texts):
        raise wrong(name, "a list of texts")
    return documents


def _rank_prompts(
    engine: AnyEngine, query: str, documents: Sequence[str], name: str, *, parses_special: bool
) -> list[Sequence[int]]:
    """Return what the model reads for each document. Blocks; call from a thread.

    `parses_special`: names of control tokens in the texts are those tokens.
    """
    most = engine.max_text_tokens
    try:
        num_tokens = len(engine.vocabulary.tokenize(query, add_special=False, parse_special=False, max_tokens=most))
    except TooManyTokens as refusal:
        num_tokens = refusal.num_tokens
    if num_tokens > most:  # it is read with every document
        raise RequestError(f"'{_QUERY.name}' has more than {most} tokens, which is what a text may have", _QUERY.name)
    prompts: list[Sequence[int]] = []
    for document in documents:
        prompts.append(_rank_prompt(engine, query, document, parses_special=parses_special))
        check_total(prompts, name)
    return prompts


def _rank_prompt(engine: AnyEngine, query: str, document: str, *, parses_special: bool) -> Sequence[int]:
    """Return what a ranking model reads: its own template filled in, else both texts between its special tokens."""
    template = engine.info.rerank_template
    if template is None:
        return engine.vocabulary.pair(query, document)
    names = control_names(engine.vocabulary)
    stand_ins: Mapping[str, str] = {}
    if not parses_special:
        (query, document), stand_ins = names.guarded((query, document), template)
    texts = {"{query}": query, "{document}": document}
    # In one go: a query that mentions {document} stays as it is.
    filled = _PLACEHOLDER.sub(lambda found: texts[found[0]], template)
    return tokens_of(engine, names.parts(filled, stand_ins), is_first=False, is_counted=True)
