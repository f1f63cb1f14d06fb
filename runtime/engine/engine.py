"""The thread that owns the context: requests in, events out.

Each turn of the thread takes what has been submitted or cancelled, computes one step, and hands all its events to the
event loop in a single call. Public methods may be called from any thread; events reach a request's sink on the thread
that `post` leads to. Knows no HTTP and no asyncio.
"""

import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

from runtime.engine.adapters import Adapters
from runtime.engine.choice import Choice
from runtime.engine.drafting import ModelGuesser
from runtime.engine.encoder import Encoder
from runtime.engine.guidance import Guide
from runtime.engine.meter import Meter
from runtime.engine.native import Aborted, Context, Model, NoRoom, Projector, write_messages
from runtime.engine.policy.batch import Batch, Edit, Sampled
from runtime.engine.policy.pace import Pace
from runtime.engine.policy.scheduler import Outcome, Scheduler, SchedulerParams
from runtime.engine.policy.sequence import Failed, Finished, GenerationRequest, Sequence, Sink
from runtime.engine.policy.speculation import Lookup, Speculation
from runtime.engine.slot_commands import Command
from runtime.engine.threads import TaskCounter, default_num_threads, num_cpus
from runtime.engine.values.facts import FillTokens, ModelInfo, Pooling
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.media import Prompt
from runtime.engine.values.params import EngineParams
from runtime.engine.vectors import Embedder, EmbeddingJob, EmbeddingQueue
from runtime.errors import EngineError, HoldallError, QueueFull, RequestError, Unavailable

Post = Callable[[Callable[[], None]], object]
T = TypeVar("T")

# Beside sequences that generate, a step computes at most this many prompt tokens: enough to use the processor well
# (the matrices are read once for all of them), few enough that the others' next token isn't late.
_NUM_PREFILL_BESIDE_DECODE = 64
# Guessed tokens cost the others time, so they are for when few generate.
_NUM_SEQUENCES_DRAFTED = 2
_JOIN_SECONDS = 2.0
# Vectors of pictures that are kept: of a model with 2,560 numbers to a vector, some hundred pictures.
_KEPT_MEDIA_BYTES = 256 * 1024 * 1024
_RETRY_AFTER_SECONDS = 5  # about an answer's length; how long the queue takes depends on what it asks for
_SECONDS_BEFORE_LOOKS = (0.0, 0.0005, 0.0005)


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
    ) -> None:
        """Make the context and start the thread.

        Raises ModelError when the context's memory can't be had or the draft model doesn't fit the model.
        """
        self._model = model
        self._post = post
        self.write_messages = partial(write_messages, model.library)  # by llama.cpp's own templates; any thread
        self.adapters = adapters or Adapters()
        num_threads = params.num_threads or default_num_threads()
        is_speculative = params.draft_max > 0 and (draft_model is not None or params.has_lookup)
        num_drafted = min(params.num_slots, _NUM_SEQUENCES_DRAFTED) * params.draft_max if is_speculative else 0
        num_outputs = min(params.num_slots + num_drafted, params.n_batch)
        self._context = Context(
            model,
            n_ctx=params.n_ctx,
            n_batch=params.n_batch,
            num_slots=params.num_slots,
            num_threads=num_threads,
            num_outputs=num_outputs,
            keeps_batches_whole=projector is not None and projector.sees_whole,
        )
        self._pace = None if params.num_threads else Pace(default_num_threads(), num_cpus())
        self._tasks = TaskCounter()
        self.info = ModelInfo(
            **asdict(model.facts),
            n_ctx=self._context.n_ctx if params.is_shared else self._context.n_ctx // params.num_slots,
            num_slots=params.num_slots,
            is_causal=self._context.is_causal,
            media_kinds=projector.kinds if projector else frozenset(),
        )
        self._projector = projector
        self._scheduler = Scheduler(
            SchedulerParams(
                num_slots=params.num_slots,
                num_cells=self._context.n_ctx,
                n_ctx=self.info.n_ctx,
                n_batch=params.n_batch,
                num_prefill_beside_decode=_NUM_PREFILL_BESIDE_DECODE,
                num_outputs=num_outputs,
                is_cuttable=model.facts.is_memory_cuttable,
                can_shift=self._context.can_shift,
                context_shift=params.context_shift,
                num_always_kept=int(model.facts.add_bos),
                parking_bytes=params.parking_bytes,
            )
        )
        self._draft: ModelGuesser | None = None
        self._speculation: Speculation | None = None
        if is_speculative and model.facts.is_memory_cuttable:
            if draft_model is not None:
                self._draft = ModelGuesser(
                    draft_model,
                    model,
                    n_ctx=self._context.n_ctx,
                    num_slots=_NUM_SEQUENCES_DRAFTED,
                    num_threads=num_threads,
                )
            self._speculation = Speculation(self._draft or Lookup(), params.draft_max)
        self.pooling = params.pooling or model.facts.pooling or Pooling.MEAN
        self.can_rank = self.pooling is Pooling.RANK and model.has_head_for_ranks()
        self.max_text_tokens = min(model.facts.n_ctx_train, self._context.n_ctx)
        self._embeddings = EmbeddingQueue(
            Embedder(
                model,
                self.pooling,
                self.adapters,
                looks_back_only=self.info.is_causal,
                max_text_tokens=self.max_text_tokens,
                num_threads=num_threads,
            )
        )
        self._meter = Meter()
        self._guide = Guide(model)
        self._choice = Choice(model, self._context, self.end_tokens)
        self._end_tokens: tuple[int, ...] | None = None
        self._wake = threading.Condition()
        # Guarded by _wake:
        self._submitted: list[Sequence] = []
        self._alive: dict[int, Sequence] = {}
        self._has_cancelled = False
        self._commands: list[tuple[Command[Any], Callable[[Any], None]]] = []
        self._jobs: list[EmbeddingJob] = []
        self._next_id = 0
        self._num_others_seen: int | None = None  # when the last request came
        self._max_waiting = params.max_waiting
        self._closed: HoldallError | None = None
        self._encoder = Encoder(projector, self._media_done, kept_bytes=_KEPT_MEDIA_BYTES) if projector else None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # -- from any thread --------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self._model.tokenize(text, add_special=add_special, parse_special=parse_special)

    def read(self, text: str, files: Tokens[bytes], param: str) -> Prompt:
        """Return the prompt of a text in which each `media.MARK` stands for a picture or a sound, the next of `files`.

        Raises RequestError for those that can't be read or aren't what this model reads. Takes long.
        """
        if self._projector is None:
            raise RequestError(f"'{param}' has pictures or sounds, but this model reads text only", param)
        return self._projector.read(text, files, param)

    def pair(self, first: str, second: str) -> list[int]:
        return self._model.pair(first, second)

    def detokenize(self, tokens: Tokens[int]) -> str:
        return self._model.detokenize(tokens)

    def piece(self, token: int) -> bytes:
        return self._model.piece(token)

    def end_tokens(self) -> tuple[int, ...]:
        """Return the tokens at which the model ends. Takes long the first time."""
        if self._end_tokens is None:
            vocabulary = range(self.info.n_vocab)
            self._end_tokens = tuple(t for t in vocabulary if self._model.is_end_of_generation(t))
        return self._end_tokens

    def metadata(self) -> dict[str, str]:
        """Return what the model's file says of it, by GGUF's keys; lists are left out."""
        return self._model.all_metadata()

    @property
    def fill_tokens(self) -> FillTokens | None:
        """The tokens around a gap to fill; None when the model wasn't trained to fill any."""
        return self._model.fill_tokens

    def meter(self) -> Meter:
        """Return what has been counted so far."""
        return replace(self._meter)

    @property
    def num_processing(self) -> int:
        return self._scheduler.num_running

    @property
    def num_deferred(self) -> int:
        return self._scheduler.num_waiting + (self._encoder.num_waiting if self._encoder else 0)

    def prepare(self, grammar: Grammar) -> None:
        """Compile a grammar, so that `submit` doesn't take long. Raises RequestError when it can't be used."""
        self._guide.constraint(grammar)

    def submit(self, request: GenerationRequest, sink: Sink) -> int:
        """Queue a request and return its sequence's id.

        Raises RequestError or PromptTooLong for what can't be computed, QueueFull, Unavailable when closed. Takes long
        when the request has a grammar that isn't prepared.
        """
        request.check(self.info, max_whole_media=self._scheduler.n_batch)
        grammar = request.sampling.grammar
        constraint = self._guide.constraint(grammar) if grammar is not None else None
        lora = self.adapters.setting_for(request.lora)
        with self._wake:
            if self._closed is not None:
                raise self._closed
            num_waiting = self._num_submitted + self._scheduler.num_waiting
            if num_waiting >= self._max_waiting:
                raise QueueFull(num_waiting, retry_after_seconds=_RETRY_AFTER_SECONDS)
            self._next_id += 1
            sequence = Sequence.of(self._next_id, request, sink, constraint)
            sequence.lora = lora
            self._alive[sequence.id] = sequence
            self._num_others_seen = self._tasks.num_others()
            if self._encoder is not None and sequence.media:
                self._encoder.add(sequence)
            else:
                self._submitted.append(sequence)
                self._wake.notify()
        return sequence.id

    @property
    def _num_submitted(self) -> int:
        return len(self._submitted) + (self._encoder.num_waiting if self._encoder else 0)

    def _media_done(self, sequence: Sequence, failure: HoldallError | None) -> None:
        """Take a sequence whose pictures are vectors now; on the encoder's thread."""
        with self._wake:
            if sequence.is_cancelled:
                return
            if failure is None:
                self._submitted.append(sequence)
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
        job.lora = self.adapters.setting_for(None)
        with self._wake:
            if self._closed is not None:
                raise self._closed
            num_jobs = len(self._jobs) + self._embeddings.num_jobs
            if num_jobs >= self._max_waiting:
                raise QueueFull(num_jobs, retry_after_seconds=_RETRY_AFTER_SECONDS)
            self._jobs.append(job)
            self._num_others_seen = self._tasks.num_others()
            self._wake.notify()

    def command(self, command: Command[T], answer: Callable[[T | HoldallError], None]) -> None:
        """Have a command carried out between two steps; `answer` hears what came of it where sinks are called."""
        with self._wake:
            if self._closed is not None:
                raise self._closed
            self._commands.append((command, answer))
            self._wake.notify()

    def close(self) -> None:
        """Stop at once, in the middle of a step if need be, and free the context."""
        self._refuse(Unavailable("the program is stopping"))
        self._context.abort()
        self._embeddings.abort()
        if self._draft is not None:
            self._draft.abort()
        if self._encoder is not None:
            self._encoder.close()
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self._context.close()
            if self._draft is not None:
                self._draft.close()

    # -- the engine's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._step()
                self._embed()
        except Exception as error:  # a bug of ours: tell every client instead of leaving it waiting
            failure = EngineError(f"the engine has stopped: {error!r}; start the program again")
            self._refuse(failure)
            self._deliver([(sequence, Failed(failure)) for sequence in list(self._alive.values())])
            raise
        finally:
            for job in [*self._embeddings.close(), *self._jobs]:
                self._post(partial(job.sink, self._closed or Unavailable("the program is stopping")))
            for _command, answer in self._commands:
                self._post(partial(answer, self._closed))
            self._choice.close()
            self._tasks.close()

    def _refuse(self, reason: HoldallError) -> None:
        with self._wake:
            self._closed = self._closed or reason
            self._wake.notify()

    def _take_commands(self) -> bool:
        """Wait for something to do and take what came in; False when the engine is to stop."""
        was_idle = not self._has_work
        with self._wake:
            self._wake.wait_for(
                lambda: (
                    self._closed
                    or self._submitted
                    or self._has_cancelled
                    or self._commands
                    or self._jobs
                    or self._has_work
                )
            )
            if self._closed:
                return False
            submitted, self._submitted = self._submitted, []
            cancelled = [s for s in self._alive.values() if s.is_cancelled] if self._has_cancelled else []
            for sequence in cancelled:
                del self._alive[sequence.id]
            self._has_cancelled = False
            commands, self._commands = self._commands, []
            jobs, self._jobs = self._jobs, []
        for sequence in submitted:
            self._scheduler.add(sequence)
        for sequence in cancelled:
            self._scheduler.remove(sequence)
            self._end(sequence)
        self._carry_out(commands)
        for job in jobs:
            self._embeddings.add(job)
        if was_idle and (submitted or jobs):
            self._look_around()
        return True

    def _carry_out(self, commands: list[tuple[Command[Any], Callable[[Any], None]]]) -> None:
        """Carry out the commands whose slots are idle; the others are taken up again after the next step."""
        for command, answer in commands:
            if not command.is_ready(self._scheduler):
                with self._wake:
                    self._commands.append((command, answer))
                continue
            try:
                outcome = command.run(self._scheduler, self._context, time.monotonic())
            except HoldallError as error:
                outcome = error
            except Exception as error:  # a bug of ours, which concerns nobody but who gave the command
                outcome = EngineError(f"a command to the engine failed: {error!r}")
            self._post(partial(answer, outcome))

    @property
    def _has_work(self) -> bool:
        return bool(self._scheduler.num_running or self._scheduler.num_waiting or self._embeddings.num_jobs)

    def _step(self) -> None:
        self._edit(self._scheduler.admit(time.monotonic()))
        self._guess_ahead()
        batch = self._scheduler.schedule()
        self._edit(batch.edits)
        if batch.is_empty:
            return
        try:
            self._decode(batch)
        except Aborted:
            return  # only `close` aborts; the next turn sees it
        except (NoRoom, EngineError) as error:
            self._fail(batch, error if isinstance(error, EngineError) else EngineError("the KV cache is full"))
            return
        self._meter.count_step(len(batch.parts))
        scored = {each.id: self._choice.score(each, index, tokens) for each, index, tokens in batch.scores}
        sampled: list[Sampled] = []
        failures: list[Outcome] = []
        for sequence, index in batch.outputs:
            try:
                sampled += self._choice.sample(sequence, index)
            except RequestError as error:
                failures.append((sequence, Failed(error)))
        outcomes = self._scheduler.commit(batch, sampled, time.monotonic(), scored)
        for sequence, _failed in failures:
            self._scheduler.remove(sequence)
        self._deliver(outcomes + failures)

    def _edit(self, edits: list[Edit]) -> None:
        for failed in self._context.edit(edits):
            self._scheduler.restore_failed(failed.slot)

    def _guess_ahead(self) -> None:
        """Give the sequences that generate a draft each, unless there are too many of them."""
        if self._speculation is None:
            return
        generating = self._scheduler.generating
        if self._draft is not None and self._pace is not None:
            self._draft.set_threads(self._pace.num_threads(time.monotonic()))
        for sequence in generating:
            is_worth_it = len(generating) <= _NUM_SEQUENCES_DRAFTED
            is_text = not sequence.media  # of pictures there is nothing to guess from
            sequence.draft = self._speculation.propose(sequence) if is_worth_it and is_text else ()

    def _embed(self) -> None:
        """Compute a step of the texts that are to become vectors, a small one beside sequences."""
        if not self._embeddings.num_jobs:
            return
        is_alone = not (self._scheduler.num_running or self._scheduler.num_waiting)
        num_threads = self._pace.num_threads(time.monotonic()) if self._pace else None
        try:
            ended = self._embeddings.step(sys.maxsize if is_alone else _NUM_PREFILL_BESIDE_DECODE, num_threads)
        except Aborted:
            return  # only `close` aborts; the next turn sees it
        if self._pace is not None:
            self._pace.observe_tasks(self._tasks.num_others())
        if ended is not None:
            job, error = ended
            self._post(partial(job.sink, error or job))

    def _decode(self, batch: Batch) -> None:
        self.adapters.apply(self._context, batch.lora)
        if self._pace is None:
            self._context.compute(batch)
            return
        started, cpu_before = time.monotonic(), time.process_time()
        num_threads = self._pace.num_threads(started)
        self._context.set_threads(num_threads)
        self._context.compute(batch)
        ended = time.monotonic()
        # Now, and not before the next step: then the last tokens are on their way, and those who carry them run, too.
        self._pace.observe_tasks(self._tasks.num_others())
        self._pace.observe_step(num_threads, ended - started, time.process_time() - cpu_before, ended)

    def _look_around(self) -> None:
        """After a rest, count until nobody is there or it was enough; the one who brought the request is often seen."""
        if self._pace is not None:
            self._pace.forget()
            num_others = self._num_others_seen
            self._pace.observe_tasks(num_others)
            for seconds in _SECONDS_BEFORE_LOOKS:
                if not num_others:
                    return
                if seconds:  # else the interpreter's lock would go to others first
                    time.sleep(seconds)
                num_others = self._tasks.num_others()
                self._pace.observe_tasks(num_others)

    def _fail(self, batch: Batch, error: EngineError) -> None:
        sequences = [sequence for sequence, _count in batch.parts]
        for sequence in sequences:
            self._scheduler.forget_cache(sequence)
            self._scheduler.remove(sequence)
        self._deliver([(sequence, Failed(error)) for sequence in sequences])

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for sequence, event in outcomes:
            if isinstance(event, (Finished, Failed)):
                self._end(sequence)
        if outcomes:
            self._post(lambda: self._call_sinks(outcomes))

    def _end(self, sequence: Sequence) -> None:
        self._meter.count_sequence(sequence.timings(time.monotonic()))
        self._choice.forget(sequence)
        if self._speculation is not None:
            self._speculation.forget(sequence)

    # -- where `post` leads to --------------------------------------------------------------------------------------

    def _call_sinks(self, outcomes: list[Outcome]) -> None:
        for sequence, event in outcomes:
            # Alive until its last event is heard, so that a cancel stops those that are on their way, too.
            if isinstance(event, (Finished, Failed)):
                with self._wake:
                    self._alive.pop(sequence.id, None)
            if not sequence.is_cancelled:
                sequence.sink(event)
