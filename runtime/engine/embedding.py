"""Texts to vectors, beside the sequences that generate.

A job is computed in steps between theirs, small ones while somebody generates, so that a long text stalls nobody. A
model that looks both ways must see a text whole; one that only looks back can take it in chunks, whose mean vectors
together give the text's. The engine's thread only, but for `EmbeddingJob`'s making and cancelling.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from runtime.engine.batch import BatchEntry
from runtime.engine.facts import Pooling
from runtime.engine.native import EmbeddingContext, Model, NoRoom
from runtime.errors import EngineError, HoldallError

Vectors = list[list[float]]

_MAX_TEXT_TOKENS = 2048  # by default; so many take the memory of a conversation of that length
_NUM_TEXTS_AT_ONCE = 16
_MAX_STEP_TOKENS = 512


@dataclass(eq=False, slots=True)
class EmbeddingJob:
    """Texts as token ids, and what they became: for each text one vector, or without pooling one for each token."""

    texts: Sequence[Sequence[int]]
    sink: Callable[["EmbeddingJob | Exception"], None]
    results: list[Vectors] = field(default_factory=list)
    is_cancelled: bool = False


def max_text_tokens(n_ctx_train: int, n_batch: int) -> int:
    """Return how long a text may be: a larger step allows longer ones."""
    return min(n_ctx_train, max(_MAX_TEXT_TOKENS, n_batch))


class Embedder:
    """A context of its own for vectors; made when somebody first asks for one, since it takes memory."""

    def __init__(self, model: Model, pooling: Pooling, *, n_ctx: int, num_threads: int) -> None:
        """Raises ModelError when the memory can't be had."""
        self._looks_back_only = model.facts.is_causal
        self._pooling = pooling
        self._num_step_tokens = min(n_ctx, _MAX_STEP_TOKENS) if self._looks_back_only else n_ctx
        self._context = EmbeddingContext(
            model,
            pooling=pooling,
            n_ctx=n_ctx,
            n_batch=self._num_step_tokens,
            num_slots=_NUM_TEXTS_AT_ONCE,
            num_threads=num_threads,
        )

    def steps(self, job: EmbeddingJob, max_step_tokens: Callable[[], int]) -> Iterator[None]:
        """Compute a job, a step each time the iterator is advanced; `max_step_tokens` is asked before each.

        Raises what `Context.decode` raises.
        """
        job.results = [[] for _ in job.texts]
        waiting = deque(enumerate(job.texts))
        while waiting:
            self._context.clear()
            room = min(max_step_tokens(), self._num_step_tokens)
            index, text = waiting[0]
            if self._looks_back_only and len(text) > room:
                waiting.popleft()
                yield from self._long(text, job.results[index], max_step_tokens)
                continue
            packed = [waiting.popleft()]
            num_tokens = len(text)
            while waiting and len(packed) < _NUM_TEXTS_AT_ONCE and num_tokens + len(waiting[0][1]) <= room:
                packed.append(waiting.popleft())
                num_tokens += len(packed[-1][1])
            entries = [
                BatchEntry(token, position, slot, True)
                for slot, (_index, tokens) in enumerate(packed)
                for position, token in enumerate(tokens)
            ]
            vectors = iter(self._context.vectors(entries))
            for index, tokens in packed:
                count = len(tokens) if self._pooling is Pooling.NONE else 1
                job.results[index] = [next(vectors) for _ in range(count)]
            yield

    def _long(self, text: Sequence[int], result: Vectors, max_step_tokens: Callable[[], int]) -> Iterator[None]:
        start = 0
        while start < len(text):
            end = min(len(text), start + min(max_step_tokens(), self._num_step_tokens))
            entries = [BatchEntry(text[position], position, 0, True) for position in range(start, end)]
            vectors = self._context.vectors(entries)
            if self._pooling is Pooling.NONE:
                result += vectors
            elif self._pooling is Pooling.MEAN:
                so_far = result[0] if result else [0.0] * len(vectors[0])
                share = (end - start) / end
                result[:] = [[old + (new - old) * share for old, new in zip(so_far, vectors[0], strict=True)]]
            elif self._pooling is not Pooling.CLS or start == 0:
                result[:] = vectors
            start = end
            yield

    def set_threads(self, num_threads: int) -> None:
        self._context.set_threads(num_threads)

    def abort(self) -> None:
        self._context.abort()

    def close(self) -> None:
        self._context.close()


class EmbeddingQueue:
    """The jobs that wait and the one that is being computed."""

    def __init__(self, model: Model, pooling: Pooling, *, max_text_tokens: int, num_threads: int) -> None:
        self._model = model
        self._pooling = pooling
        self._max_text_tokens = max_text_tokens
        self._num_threads = num_threads
        self._embedder: Embedder | None = None
        self._waiting: deque[EmbeddingJob] = deque()
        self._current: tuple[EmbeddingJob, Iterator[None]] | None = None
        self._step_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(self._current or self._waiting)

    def add(self, job: EmbeddingJob) -> None:
        self._waiting.append(job)

    def step(self, max_step_tokens: int, num_threads: int | None) -> tuple[EmbeddingJob, Exception | None] | None:
        """Compute one step; return a job when it has ended, with its error if that was the reason."""
        self._step_tokens = max_step_tokens
        if self._current is None:
            if not self._waiting:
                return None
            job = self._waiting.popleft()
            try:
                self._current = job, self._ready().steps(job, lambda: self._step_tokens)
            except HoldallError as error:
                return job, error
        job, steps = self._current
        if job.is_cancelled:
            self._current = None
            return None
        if num_threads is not None:
            self._ready().set_threads(num_threads)
        try:
            if next(steps, self) is not self:
                return None
        except (NoRoom, EngineError) as error:
            self._current = None
            return job, error if isinstance(error, EngineError) else EngineError("no room for the texts' tokens")
        self._current = None
        return job, None

    def _ready(self) -> Embedder:
        if self._embedder is None:
            self._embedder = Embedder(
                self._model, self._pooling, n_ctx=self._max_text_tokens, num_threads=self._num_threads
            )
        return self._embedder

    def abort(self) -> None:
        if self._embedder is not None:
            self._embedder.abort()

    def close(self) -> list[EmbeddingJob]:
        """Free the context; return the jobs that nobody will compute."""
        left = [*([self._current[0]] if self._current else []), *self._waiting]
        self._current = None
        self._waiting.clear()
        if self._embedder is not None:
            self._embedder.close()
            self._embedder = None
        return left


def normalized(vector: list[float], kind: int) -> list[float]:
    """Return a vector divided by its norm, as llama.cpp numbers them (`--embd-normalize`).

    Negative is none, 0 the largest absolute value (scaled to 32760), 1 taxicab, 2 Euclidean, others that p-norm.
    """
    if kind < 0:
        return vector
    if kind == 0:
        norm = max(map(abs, vector), default=0.0) / 32760.0
    elif kind == 2:
        norm = math.sqrt(math.fsum(x * x for x in vector))
    else:
        norm = math.fsum(abs(x) ** kind for x in vector) ** (1.0 / kind)
    return [x / norm for x in vector] if norm > 0 else [0.0] * len(vector)
