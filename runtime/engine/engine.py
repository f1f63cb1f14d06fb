"""The engine from outside: requests in, events out, one thread in between that owns the context.

Public methods may be called from any thread. Each turn of the engine's thread takes what has been submitted or
cancelled, has the `Worker` compute one step, and hands all its events to the event loop in a single call; they reach a
request's sink on the thread that `post` leads to. Knows no HTTP and no asyncio.

A turn that fails by a bug of ours takes what is being computed with it, since nobody knows what state that is in: its
clients hear of it, and a new `Worker` with a new context serves those who come next. Only when there is no memory for
one, or the thread itself fails, is the engine at its end, and `on_end` hears why.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Tokens
from dataclasses import replace
from functools import partial
from typing import TypeVar

from runtime.engine.adapters import Adapters
from runtime.engine.encoder import Encoder
from runtime.engine.guidance.guide import Guide
from runtime.engine.interface import AnyVocabulary
from runtime.engine.native import Model, Projector
from runtime.engine.policy.scheduler import Outcome
from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.commands import Command
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import Failed, Finished, Sink
from runtime.engine.values.facts import LoraInfo, Pooling
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.meter import Meter
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import GenerationRequest, Prompt, TextPart
from runtime.engine.values.sampling import SamplingParams
from runtime.engine.worker import Arrivals, Post, Worker, model_info
from runtime.errors import (
    EngineError,
    EngineRestarted,
    HoldallError,
    PromptTooLong,
    QueueFull,
    RequestError,
    TooManyTokens,
    Unavailable,
)
from runtime.nursery import Nursery, Patience

T = TypeVar("T")

_JOIN_SECONDS = 2.0
# So many times the queue may wait where most of it is one client's.
_TIMES_WITH_OTHERS = 2
# Vectors of pictures that are kept: of a model with 2,560 numbers to a vector, some hundred pictures.
_KEPT_MEDIA_BYTES = 256 * 1024 * 1024
_RETRY_AFTER_SECONDS = 5  # about an answer's length; how long the queue takes depends on what it asks for


class Engine:
    """Generates for many requests at once. `post` runs a function on the thread where sinks are called."""

    def __init__(
        self,
        model: Model,
        params: EngineParams,
        post: Post,
        draft_model: Model | None = None,
        adapters: Adapters | None = None,
        projector: Projector | None = None,
        *,
        nursery: Nursery | None = None,
        on_end: Callable[[HoldallError], None] = lambda _error: None,
    ) -> None:
        """Make the context and start the thread. `on_end` is called, as sinks are, if it fails for good.

        Without a nursery every grammar is trusted.

        Raises ModelError when the context's memory can't be had or the draft model doesn't fit the model.
        """
        self._post = post
        self._adapters = adapters or Adapters()
        self.vocabulary: AnyVocabulary = model
        self._projector = projector
        self._on_end = on_end
        self._make_worker = partial(
            Worker,
            model,
            params,
            self._adapters,
            draft_model=draft_model,
            sees_pictures_whole=projector is not None and projector.sees_whole,
            post=post,
            deliver=lambda outcomes: post(lambda: self._call_sinks(outcomes)),
        )
        self._worker = self._make_worker()
        self.info = model_info(model, params, self._worker, projector.kinds if projector else frozenset())
        self.pooling: Pooling = self._worker.pooling
        self.can_rank = self.pooling is Pooling.RANK and model.has_head_for_ranks()
        self.max_text_tokens: int = self._worker.max_text_tokens
        self._guide = Guide(model, nursery)
        self._max_waiting = params.max_waiting
        self._wake = threading.Condition()
        # Guarded by _wake:
        self._arrivals = Arrivals()
        self._alive: dict[int, Sequence] = {}
        self._has_cancelled = False
        self._next_id = 0
        self._num_others_seen: int | None = None  # when the last request came
        self._closed: HoldallError | None = None
        self._encoder = Encoder(projector, self._media_done, kept_bytes=_KEPT_MEDIA_BYTES) if projector else None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # -- from any thread --------------------------------------------------------------------------------------------

    def meter(self) -> Meter:
        """Return what has been counted so far."""
        return replace(self._worker.meter)

    @property
    def num_processing(self) -> int:
        return self._worker.scheduler.num_running

    @property
    def num_deferred(self) -> int:
        return self._worker.scheduler.num_waiting + self._num_encoding

    @property
    def _num_encoding(self) -> int:
        return self._encoder.num_waiting if self._encoder else 0

    def lora_adapters(self) -> tuple[LoraInfo, ...]:
        """Return the LoRA adapters in the order of their ids, with the scales that hold now."""
        return self._adapters.described()

    def set_lora_scales(self, scales: Iterable[tuple[int, float]]) -> None:
        """Set the scales for requests that name none; an adapter that isn't named gets 0. Raises RequestError."""
        self._adapters.default_scales = self._adapters.scales_for(scales)

    def read(self, parts: Tokens[TextPart], files: Tokens[bytes], param: str) -> Prompt:
        """Return the prompt of a text in parts, where each `media.MARK` stands for a picture or a sound.

        They are `files` in their order. Raises RequestError for those that can't be read or aren't what this model
        reads. Blocks; call from a thread.
        """
        if self._projector is None:
            raise RequestError(f"'{param}' has pictures or sounds, but this model reads text only", param)
        num_tokens = 0
        try:  # the projector's library reads a text of any length before it says how long it is
            for part in parts:
                most = self.info.n_ctx - num_tokens
                tokens = self.vocabulary.tokenize(
                    part.text, add_special=False, parse_special=part.parses_special, max_tokens=most
                )
                num_tokens += len(tokens)
        except TooManyTokens as refusal:
            raise PromptTooLong(num_tokens + refusal.num_tokens, self.info.n_ctx, is_counted=False) from None
        return self._projector.read(parts, files, param)

    def compile(self, grammar: Grammar, patience: Patience | None = None) -> None:
        """Compile a grammar. Blocks; call from a thread.

        Raises RequestError when it can't be used, Unavailable when those in use leave no memory for it, when whoever
        asks has left, and when the nursery is gone, and NoTimeLeft when it isn't compiled yet and nobody waits.
        """
        self._guide.constraint(grammar, patience)

    def prepare(self, sampling: SamplingParams, patience: Patience | None = None) -> object:
        """Do what takes long before `submit`, which then doesn't block, nor does the engine's thread.

        That holds as long as what is returned is kept. Blocks; call from a thread. Raises what `compile` raises.
        """
        grammar = sampling.grammar
        constraint = None if grammar is None else self._guide.constraint(grammar, patience)
        self._worker.prepare(sampling, patience)
        return constraint

    def submit(self, request: GenerationRequest, sink: Sink) -> int:
        """Queue a request and return its sequence's id.

        Raises RequestError or PromptTooLong for what can't be computed, QueueFull, Unavailable when closed, and
        EngineError when the engine, or what computes pictures, has failed. Blocks when the request has a grammar that
        isn't prepared.
        """
        request.check(self.info, max_whole_media=self._worker.scheduler.n_batch)
        grammar = request.params.sampling.grammar
        constraint = self._guide.constraint(grammar) if grammar is not None else None
        lora = self._adapters.setting_for(request.params.lora)
        with self._wake:
            self._check_open(_num_waiting(self._alive.values(), request.group, self._max_waiting))
            self._next_id += 1
            sequence = Sequence.of(self._next_id, request, sink, constraint)
            sequence.lora = lora
            self._num_others_seen = self._worker.paced.num_others()
            if self._encoder is not None and sequence.media:
                self._encoder.add(sequence)
            else:
                self._arrivals.submitted.append(sequence)
                self._wake.notify()
            self._alive[sequence.id] = sequence
        return sequence.id

    def _check_open(self, num_waiting: int) -> None:
        """Raise what a request that comes now is refused with."""
        if self._closed is not None:
            raise self._closed
        if num_waiting >= self._max_waiting:
            raise QueueFull(num_waiting, retry_after_seconds=_RETRY_AFTER_SECONDS)

    def _media_done(self, sequence: Sequence, failure: HoldallError | None) -> None:
        """Take a sequence whose pictures are vectors now; on the encoder's thread."""
        with self._wake:
            if sequence.is_cancelled or sequence.id not in self._alive:
                return
            if failure is None:
                self._arrivals.submitted.append(sequence)
                self._wake.notify()
                return
        self._post(lambda: self._call_sinks([(sequence, Failed(failure))]))

    def cancel(self, sequence_id: int) -> None:
        """End a sequence without further events; its place is free in the next step."""
        with self._wake:
            sequence = self._alive.get(sequence_id)
            if sequence is not None:
                sequence.is_cancelled = True
                self._has_cancelled = True
                self._wake.notify()

    def embed(self, job: EmbeddingJob) -> None:
        """Have texts made into vectors; the job's sink hears it back, or the error, where sinks are called.

        Raises RequestError or TextTooLong for texts that can't be computed, QueueFull, Unavailable when closed. A job
        whose `is_cancelled` is set ends within a step, and nobody hears of it.
        """
        job.check(self.info.n_vocab, self.max_text_tokens)
        job.lora = self._adapters.setting_for(None)
        with self._wake:
            self._check_open(len(self._arrivals.jobs) + self._worker.num_jobs)
            self._arrivals.jobs.append(job)
            self._num_others_seen = self._worker.paced.num_others()
            self._wake.notify()

    def command(self, command: Command[T], answer: Callable[[T | HoldallError], None]) -> None:
        """Have a command carried out between two steps; `answer` hears what came of it where sinks are called."""
        with self._wake:
            if self._closed is not None:
                raise self._closed
            self._arrivals.commands.append((command, answer))
            self._wake.notify()

    def close(self) -> None:
        """Stop at once, in the middle of a step if need be, and free the context."""
        self._refuse(Unavailable("the program is stopping"))
        self._worker.abort()
        if self._encoder is not None:
            self._encoder.close()
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self._worker.close()

    def _refuse(self, reason: HoldallError) -> None:
        with self._wake:
            self._closed = self._closed or reason
            self._wake.notify()

    # -- the engine's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (arrivals := self._take_arrivals()) is not None:
                try:
                    self._worker.turn(arrivals)
                except Exception as error:
                    self._start_anew(arrivals, error)
        except Exception as error:
            failure = EngineError(f"the engine has stopped: {error!r}; start the program again")
            failure.__cause__ = error
            self._refuse(failure)
            self._fail([*self._alive.values()], failure)
            self._post(partial(self._on_end, failure))
        finally:
            reason = self._closed or Unavailable("the program is stopping")
            for job in self._arrivals.jobs:
                self._post(partial(job.sink, reason))
            for _command, answer in self._arrivals.commands:
                self._post(partial(answer, reason))
            self._worker.end(reason)

    def _start_anew(self, arrivals: Arrivals, error: Exception) -> None:
        """Fail what was being computed, and go on with a new context. Raises ModelError when there is no memory."""
        failure = EngineRestarted()
        failure.__cause__ = error
        with self._wake:  # those who have come since then are served
            later = {sequence.id for sequence in self._arrivals.submitted}
            failed = [sequence for sequence in self._alive.values() if sequence.id not in later]
        self._fail(failed, failure)
        for job in arrivals.jobs:
            self._post(partial(job.sink, failure))
        for _command, answer in arrivals.commands:
            self._post(partial(answer, failure))
        before = self._worker
        before.end(failure)
        before.close()
        self._worker = self._make_worker()
        self._worker.meter = before.meter

    def _fail(self, sequences: list[Sequence], failure: HoldallError) -> None:
        with self._wake:
            for sequence in sequences:
                self._alive.pop(sequence.id, None)
        self._post(lambda: self._call_sinks([(sequence, Failed(failure)) for sequence in sequences]))

    def _take_arrivals(self) -> Arrivals | None:
        """Wait for something to do and return what came in; None when the engine is to stop."""
        was_idle = not self._worker.has_work
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._has_arrivals or self._worker.has_work)
            if self._closed:
                return None
            arrivals, self._arrivals = self._arrivals, Arrivals()
            if self._has_cancelled:
                arrivals.cancelled = [s for s in self._alive.values() if s.is_cancelled]
                for sequence in arrivals.cancelled:
                    del self._alive[sequence.id]
                self._has_cancelled = False
        if was_idle and (arrivals.submitted or arrivals.jobs):
            self._worker.paced.sample_run_queue(self._num_others_seen)
        return arrivals

    @property
    def _has_arrivals(self) -> bool:
        arrivals = self._arrivals
        return bool(arrivals.submitted or self._has_cancelled or arrivals.commands or arrivals.jobs)

    # -- where `post` leads to --------------------------------------------------------------------------------------

    def _call_sinks(self, outcomes: list[Outcome]) -> None:
        for sequence, event in outcomes:
            # Alive until its last event is heard, so that a cancel stops those that are on their way, too.
            if isinstance(event, (Finished, Failed)):
                with self._wake:
                    self._alive.pop(sequence.id, None)
            if not sequence.is_cancelled:
                sequence.sink(event)


def _num_waiting(sequences: Collection[Sequence], group: object, max_waiting: int) -> int:
    """Count the sequences that wait; the clients instead for one that would find the queue full of another's many."""
    waiting = Counter(sequence.group for sequence in sequences if sequence.slot is None)
    num_own = 0 if group is None else waiting[group]
    has_fewer = num_own + 1 < max(waiting.values(), default=0)
    is_full_of_others = max_waiting <= waiting.total() < _TIMES_WITH_OTHERS * max_waiting and has_fewer
    return len(waiting) if is_full_of_others else waiting.total()
