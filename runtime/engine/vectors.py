"""Texts to vectors, beside the sequences that generate.

Jobs are computed in steps between those of the sequences, small ones while a sequence generates, so that a long text
stalls no answer. A bidirectional model must see a text whole. A causal model can take a text in chunks, and the chunks'
mean vectors together give the text's. Jobs take turns after each step, so that a short text needn't wait for another
client's library. The engine's thread only, but for `EmbeddingJob`'s making and
cancelling.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from runtime.engine.adapters import Adapters
from runtime.engine.native import EmbeddingContext, Model, NoRoom
from runtime.engine.policy.memory import read_memory
from runtime.engine.values.edits import BatchEntry
from runtime.engine.values.embedding import EmbeddingJob, Vectors
from runtime.engine.values.facts import Pooling
from runtime.errors import EngineError, ModelError, Unavailable

_LEAST_CAPACITY = 512  # tokens that a context has room for however short the first text is
_NUM_TEXTS_AT_ONCE = 16
_MAX_STEP_TOKENS = 512
_LEAST_STEP_TOKENS = 64
# llama.cpp keeps a logit of each token of the vocabulary for each token of a step, read or not: at most 128 MiB.
_MAX_STEP_LOGITS = 2**25
_LOGIT_BYTES = 4


class Embedder:
    """A context of its own for vectors: made at the first request, since it takes memory, and made again for a longer
    text.
    """

    def __init__(
        self,
        model: Model,
        pooling: Pooling,
        adapters: Adapters,
        *,
        looks_back_only: bool,
        max_text_tokens: int,
        num_threads: int,
    ) -> None:
        """`num_threads` is the most there will be; `set_threads` takes fewer."""
        self._model = model
        self._pooling = pooling
        self._adapters = adapters
        self._looks_back_only = looks_back_only
        self._max_text_tokens = max_text_tokens
        self._max_threads = self._num_threads = num_threads
        fitting = _MAX_STEP_LOGITS // model.facts.n_vocab
        self._num_step_tokens = max(_LEAST_STEP_TOKENS, min(_MAX_STEP_TOKENS, fitting))
        self._context: EmbeddingContext | None = None
        self._is_aborted = False

    def steps(self, job: EmbeddingJob, max_step_tokens: Callable[[], int]) -> Iterator[bool]:
        """Compute a job, a step each time the iterator is advanced; `max_step_tokens` is asked before each.

        Yields whether another job may be advanced before this one, and ends with the last step. Raises what
        `Context.decode` raises, and Unavailable when there is no memory.
        """
        job.results = [[] for _ in job.texts]
        longest = max(map(len, job.texts), default=0)
        waiting = deque(enumerate(job.texts))
        while waiting:
            context = self._context_for(longest)
            context.clear()
            self._adapters.apply(context, job.lora)
            room = min(max_step_tokens(), self._num_step_tokens, context.n_batch)
            index, text = waiting[0]
            if self._looks_back_only and len(text) > room:
                waiting.popleft()
                yield from self._long(context, text, job.results[index], max_step_tokens)
            else:
                packed = list(_first_that_fit(waiting, room))
                vectors = iter(self._compute(context, [tokens for _index, tokens in packed]))
                for index, tokens in packed:
                    count = len(tokens) if self._pooling is Pooling.NONE else 1
                    job.results[index] = [next(vectors) for _ in range(count)]
            if waiting:
                yield True

    def _compute(
        self, context: EmbeddingContext, texts: Sequence[Sequence[int]], *, start: int = 0
    ) -> list[list[float]]:
        """Compute these texts in one step, the first one's tokens from position `start` on."""
        context.set_threads(self._num_threads)
        return context.vectors(
            [
                BatchEntry(token, position, slot, True)
                for slot, tokens in enumerate(texts)
                for position, token in enumerate(tokens, start)
            ]
        )

    def _long(
        self, context: EmbeddingContext, text: Sequence[int], result: Vectors, max_step_tokens: Callable[[], int]
    ) -> Iterator[bool]:
        start = 0
        while start < len(text):
            if start:
                yield False  # the context holds the beginning of the text
            end = min(len(text), start + min(max_step_tokens(), self._num_step_tokens, context.n_batch))
            vectors = self._compute(context, [text[start:end]], start=start)
            if self._pooling is Pooling.NONE:
                result += vectors
            elif self._pooling is Pooling.MEAN:
                so_far = result[0] if result else [0.0] * len(vectors[0])
                share = (end - start) / end
                result[:] = [[old + (new - old) * share for old, new in zip(so_far, vectors[0], strict=True)]]
            elif self._pooling is not Pooling.CLS or start == 0:
                result[:] = vectors
            start = end

    def _context_for(self, num_tokens: int) -> EmbeddingContext:
        """Return a context that has room for a text of so many tokens. Raises Unavailable when there is no memory."""
        if self._context is not None and num_tokens <= self._context.n_ctx:
            return self._context
        self.close()
        n_ctx = min(1 << (max(num_tokens, _LEAST_CAPACITY) - 1).bit_length(), self._max_text_tokens)
        n_batch = min(n_ctx, self._num_step_tokens) if self._looks_back_only else n_ctx
        memory = read_memory()
        if memory is not None and n_batch * self._model.facts.n_vocab * _LOGIT_BYTES > memory.free:
            raise Unavailable(f"there is no memory for a text of {num_tokens} tokens now; try a shorter one")
        try:
            context = EmbeddingContext(
                self._model,
                pooling=self._pooling,
                n_ctx=n_ctx,
                n_batch=n_batch,
                num_slots=_NUM_TEXTS_AT_ONCE,
                num_threads=self._max_threads,
            )
        except ModelError as error:
            raise Unavailable(f"there is no memory for a text of {num_tokens} tokens now; try a shorter one") from error
        self._context = context
        if self._is_aborted:
            context.abort()
        return context

    def set_threads(self, num_threads: int) -> None:
        self._num_threads = num_threads

    def abort(self) -> None:
        """Stop the step that is computed, and every later one. Any thread."""
        self._is_aborted = True
        context = self._context
        if context is not None:
            context.abort()

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None


def _first_that_fit(waiting: deque[tuple[int, Sequence[int]]], room: int) -> Iterator[tuple[int, Sequence[int]]]:
    """Take the first text, however long, and those behind it that have room with it."""
    num_texts = num_tokens = 0
    while waiting and num_texts < _NUM_TEXTS_AT_ONCE and (not num_texts or num_tokens + len(waiting[0][1]) <= room):
        num_texts += 1
        num_tokens += len(waiting[0][1])
        yield waiting.popleft()


class EmbeddingQueue:
    """The jobs, the next one to be advanced first."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._jobs: deque[tuple[EmbeddingJob, Iterator[bool]]] = deque()
        self._step_tokens = 0

    @property
    def num_jobs(self) -> int:
        return len(self._jobs)

    def add(self, job: EmbeddingJob) -> None:
        self._jobs.append((job, self._embedder.steps(job, lambda: self._step_tokens)))

    def step(self, max_step_tokens: int, num_threads: int | None) -> tuple[EmbeddingJob, Exception | None] | None:
        """Compute one step; return a job when it has ended, with its error if that was the reason."""
        if any(job.is_cancelled for job, _steps in self._jobs):
            self._jobs = deque(entry for entry in self._jobs if not entry[0].is_cancelled)
        if not self._jobs:
            return None
        self._step_tokens = max_step_tokens
        if num_threads is not None:
            self._embedder.set_threads(num_threads)
        job, steps = self._jobs[0]
        try:
            may_switch = next(steps)
        except StopIteration:
            self._jobs.popleft()
            return job, None
        except (NoRoom, EngineError, Unavailable) as error:
            self._jobs.popleft()
            return job, EngineError("no room for the texts' tokens") if isinstance(error, NoRoom) else error
        if may_switch:
            self._jobs.rotate(-1)
        return None

    def abort(self) -> None:
        self._embedder.abort()

    def close(self) -> list[EmbeddingJob]:
        """Free the context; return the jobs that are left."""
        left = [job for job, _steps in self._jobs]
        self._jobs.clear()
        self._embedder.close()
        return left
