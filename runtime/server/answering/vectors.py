"""Texts to vectors by the engine, for every client that asks for them."""

from collections.abc import Sequence

from starlette.requests import Request

from runtime.engine.interface import AnyEngine
from runtime.engine.values.embedding import EmbeddingJob, Vectors
from runtime.engine.values.facts import Pooling
from runtime.errors import RequestError
from runtime.server.answering.awaited import Awaited

MAX_TEXTS = 2048  # OpenAI's limit
EUCLIDEAN = 2


async def one_vector_each(
    request: Request, engine: AnyEngine, texts: Sequence[Sequence[int]], name: str
) -> list[list[float]]:
    """Return a vector for each text. Raises RequestError where the model gives one for each token, or a rank."""
    if engine.pooling in (Pooling.NONE, Pooling.RANK):
        raise no_vectors(engine, name)
    return [vectors[0] for vectors in await computed_vectors(request, engine, texts, name)]


def no_vectors(engine: AnyEngine, name: str) -> RequestError:
    if engine.pooling is Pooling.RANK:
        return RequestError("this model ranks texts: ask /rerank, or start with --pooling mean for vectors", name)
    return RequestError("with --pooling none there is no one vector for a text; /embeddings gives one a token", name)


async def computed_vectors(
    request: Request, engine: AnyEngine, texts: Sequence[Sequence[int]], name: str
) -> list[Vectors]:
    """Return what the texts of a field became. Raises what the engine failed with, or ClientDisconnect."""
    answer = Awaited[EmbeddingJob]()
    job = EmbeddingJob(texts, answer.hear, name)
    engine.embed(job)
    try:
        return (await answer.result(request.receive)).results
    finally:
        job.is_cancelled = True
