"""The thread that owns the context: requests in, events out.

Each turn of the thread takes what has been submitted or cancelled, computes one step, and hands all its events to the
event loop in a single call. Public methods may be called from any thread; events reach a request's sink on the thread
that `post` leads to. Knows no HTTP and no asyncio.
"""

import secrets
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import asdict, dataclass

from runtime.engine.batch import Batch, Copy, Cut, Edit, Park, Restore, Sampled, Shift
from runtime.engine.drafting import ModelGuesser
from runtime.engine.facts import ModelInfo
from runtime.engine.native import Aborted, Context, Model, NoRoom, SamplerChain
from runtime.engine.pace import Pace
from runtime.engine.scheduler import Outcome, Scheduler, SchedulerParams
from runtime.engine.sequence import Failed, Finished, GenerationRequest, Sequence, Sink
from runtime.engine.speculation import Lookup, Speculation
from runtime.engine.threads import TaskCounter, default_num_threads, num_cpus
from runtime.errors import EngineError, HoldallError, PromptTooLong, QueueFull, RequestError, Unavailable

Post = Callable[[Callable[[], None]], object]

# Beside sequences that generate, a step computes at most this many prompt tokens: enough to use the processor well
# (the matrices are read once for all of them), few enough that the others' next token isn't late.
_NUM_PREFILL_BESIDE_DECODE = 64
# Guessed tokens cost the others time, so they are for when few generate.
_NUM_SEQUENCES_DRAFTED = 2
_JOIN_SECONDS = 2.0
_RETRY_AFTER_SECONDS = 5  # about an answer's length; how long the queue takes depends on what it asks for
_NUM_LOOKS = 3
_SECONDS_BETWEEN_LOOKS = 0.0005


@dataclass(frozen=True, slots=True)
class EngineParams:
    """Sizes of an engine: n_ctx and n_batch in tokens, n_ctx shared by all slots; max_waiting in requests.

    num_threads None follows what the machine can give, step by step. context_shift lets a full context go on without
    a part of its tokens. Caches that must leave the context are parked in up to parking_bytes. With draft_max, up to so
    many tokens are guessed ahead: by a draft model where there is one, else from the text if has_lookup.
    """

    n_ctx: int
    n_batch: int = 512
    num_slots: int = 8
    max_waiting: int = 256
    num_threads: int | None = 1
    context_shift: bool = False
    parking_bytes: int = 0
    has_lookup: bool = False
    draft_max: int = 16


class Engine:
    """Generates for many requests at once. `post` runs a function on the thread where sinks are called."""

    def __init__(self, model: Model, params: EngineParams, post: Post, draft_model: Model | None = None) -> None:
        """Make the context and start the thread.

        Raises ModelError when the context's memory can't be had or the draft model doesn't fit the model.
        """
        self._model = model
        self._post = post
        num_threads = params.num_threads or default_num_threads()
        is_speculative = params.draft_max > 0 and (draft_model is not None or params.has_lookup)
        num_drafted = min(params.num_slots, _NUM_SEQUENCES_DRAFTED) * params.draft_max if is_speculative else 0
        self._context = Context(
            model,
            n_ctx=params.n_ctx,
            n_batch=params.n_batch,
            num_slots=params.num_slots,
            num_threads=num_threads,
            num_outputs=min(params.num_slots + num_drafted, params.n_batch),
        )
        self._pace = None if params.num_threads else Pace(default_num_threads(), num_cpus())
        self._tasks = TaskCounter()
        self.info = ModelInfo(**asdict(model.facts), n_ctx=self._context.n_ctx, num_slots=params.num_slots)
        self._parking_bytes = params.parking_bytes
        self._scheduler = Scheduler(
            SchedulerParams(
                num_slots=params.num_slots,
                n_ctx=self._context.n_ctx,
                n_batch=params.n_batch,
                num_prefill_beside_decode=_NUM_PREFILL_BESIDE_DECODE,
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
        self._samplers: dict[int, SamplerChain] = {}  # the engine thread's, by sequence id
        self._end_tokens: tuple[int, ...] | None = None
        self._wake = threading.Condition()
        # Guarded by _wake:
        self._submitted: list[Sequence] = []
        self._alive: dict[int, Sequence] = {}
        self._has_cancelled = False
        self._next_id = 0
        self._max_waiting = params.max_waiting
        self._closed: HoldallError | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # -- from any thread --------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self._model.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Tokens[int]) -> str:
        return self._model.detokenize(tokens)

    def piece(self, token: int) -> bytes:
        return self._model.piece(token)

    @property
    def num_processing(self) -> int:
        return self._scheduler.num_running

    @property
    def num_deferred(self) -> int:
        return self._scheduler.num_waiting

    def submit(self, request: GenerationRequest, sink: Sink) -> int:
        """Queue a request and return its sequence's id.

        Raises RequestError or PromptTooLong for a prompt that can't be computed, QueueFull, Unavailable when closed.
        """
        prompt = request.prompt_tokens
        if not prompt:
            raise RequestError("the prompt is empty; give it at least one token", "prompt")
        if len(prompt) >= self.info.n_ctx:
            raise PromptTooLong(len(prompt), self.info.n_ctx)
        if min(prompt) < 0 or max(prompt) >= self.info.n_vocab:
            raise RequestError(f"the prompt has token ids outside the vocabulary of {self.info.n_vocab}", "prompt")
        for token, _bias in request.sampling.logit_bias:
            if isinstance(token, int) and not 0 <= token < self.info.n_vocab:
                raise RequestError(
                    f"logit_bias: the vocabulary of {self.info.n_vocab} has no token {token}", "logit_bias"
                )
        with self._wake:
            if self._closed is not None:
                raise self._closed
            num_waiting = len(self._submitted) + self._scheduler.num_waiting
            if num_waiting >= self._max_waiting:
                raise QueueFull(num_waiting, retry_after_seconds=_RETRY_AFTER_SECONDS)
            self._next_id += 1
            sequence = Sequence.of(self._next_id, request, sink)
            self._alive[sequence.id] = sequence
            self._submitted.append(sequence)
            self._wake.notify()
        return sequence.id

    def cancel(self, sequence_id: int) -> None:
        """End a sequence without further events; its place is free in the next step."""
        with self._wake:
            sequence = self._alive.get(sequence_id)
            if sequence is not None:
                sequence.is_cancelled = True
                self._has_cancelled = True
                self._wake.notify()

    def close(self) -> None:
        """Stop at once, in the middle of a step if need be, and free the context."""
        self._refuse(Unavailable("the program is stopping"))
        for context in (self._context, self._draft):
            if context is not None:
                context.abort()
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
        except Exception as error:  # a bug of ours: tell every client instead of leaving it waiting
            failure = EngineError(f"the engine has stopped: {error!r}; start the program again")
            self._refuse(failure)
            self._deliver([(sequence, Failed(failure)) for sequence in list(self._alive.values())])
            raise
        finally:
            for sampler in self._samplers.values():
                sampler.close()
            self._tasks.close()

    def _refuse(self, reason: HoldallError) -> None:
        with self._wake:
            self._closed = self._closed or reason
            self._wake.notify()

    def _take_commands(self) -> bool:
        """Wait for something to do and take what came in; False when the engine is to stop."""
        was_idle = not self._has_work
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._submitted or self._has_cancelled or self._has_work)
            if self._closed:
                return False
            submitted, self._submitted = self._submitted, []
            cancelled = [s for s in self._alive.values() if s.is_cancelled] if self._has_cancelled else []
            for sequence in cancelled:
                del self._alive[sequence.id]
            self._has_cancelled = False
        for sequence in submitted:
            self._scheduler.add(sequence)
        for sequence in cancelled:
            self._scheduler.remove(sequence)
            self._forget(sequence)
        if was_idle and submitted:
            self._look_around()
        return True

    @property
    def _has_work(self) -> bool:
        return bool(self._scheduler.num_running or self._scheduler.num_waiting)

    def _step(self) -> None:
        self._carry_out(self._scheduler.admit(time.monotonic()))
        self._guess_ahead()
        batch = self._scheduler.schedule()
        self._carry_out(batch.edits)
        if not batch.entries:
            return
        try:
            self._decode(batch)
        except Aborted:
            return  # only `close` aborts; the next turn sees it
        except (NoRoom, EngineError) as error:
            self._fail(batch, error if isinstance(error, EngineError) else EngineError("the KV cache is full"))
            return
        sampled = [choice for sequence, index in batch.outputs for choice in self._sample(sequence, index)]
        self._deliver(self._scheduler.commit(batch, sampled, time.monotonic()))

    def _carry_out(self, edits: list[Edit]) -> None:
        context = self._context
        for edit in edits:
            match edit:
                case Cut(slot, keep):
                    context.cut(slot, keep)
                case Copy(source, slot, count):
                    context.share(source, slot, count)
                case Shift(slot, keep, discard):
                    context.shift(slot, keep, discard)
                case Park(slot, parked):
                    parked.data = context.save(slot, self._parking_bytes)
                case Restore(slot, parked):
                    if parked.data is None or not context.restore(slot, parked.data):
                        self._scheduler.restore_failed(slot)

    def _guess_ahead(self) -> None:
        """Give the sequences that generate a draft each, unless there are too many of them."""
        if self._speculation is None:
            return
        generating = self._scheduler.generating
        if self._draft is not None and self._pace is not None:
            self._draft.set_threads(self._pace.num_threads(time.monotonic()))
        for sequence in generating:
            is_worth_it = len(generating) <= _NUM_SEQUENCES_DRAFTED
            sequence.draft = self._speculation.propose(sequence) if is_worth_it else ()

    def _decode(self, batch: Batch) -> None:
        if self._pace is None:
            self._context.decode(batch.entries)
            return
        started, cpu_before = time.monotonic(), time.process_time()
        num_threads = self._pace.num_threads(started)
        self._context.set_threads(num_threads)
        self._context.decode(batch.entries)
        ended = time.monotonic()
        # Now, and not before the next step: then the last tokens are on their way, and those who carry them run, too.
        self._pace.observe_tasks(self._tasks.num_others())
        self._pace.observe_step(num_threads, ended - started, time.process_time() - cpu_before, ended)

    def _look_around(self) -> None:
        """After a rest, count until nobody is there or it was enough; the one who brought the request is often seen."""
        if self._pace is not None:
            self._pace.forget()
            for _ in range(_NUM_LOOKS):
                num_others = self._tasks.num_others()
                self._pace.observe_tasks(num_others)
                if not num_others:
                    return
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _sample(self, sequence: Sequence, index: int) -> list[Sampled]:
        """Choose the next token, and as long as they are those of the draft, the ones after it."""
        sampled = [self._choose(sequence, index)]
        for guessed in sequence.draft:
            if sampled[-1].token != guessed or sampled[-1].is_end:
                break
            sampled.append(self._choose(sequence, index + len(sampled)))
        return sampled

    def _choose(self, sequence: Sequence, index: int) -> Sampled:
        sampler = self._samplers.get(sequence.id)
        if sampler is None:
            sampler = self._samplers[sequence.id] = self._make_sampler(sequence.request)
        token = self._context.sample(sampler, index)
        return Sampled(sequence, token, self._model.piece(token), self._model.is_end_of_generation(token))

    def _make_sampler(self, request: GenerationRequest) -> SamplerChain:
        params = request.sampling
        seed = params.seed if params.seed is not None else secrets.randbits(32)
        banned = self._all_end_tokens() if request.ignore_eos else ()
        sampler = SamplerChain(self._model, params, seed, banned=banned)
        # The samplers that look back see the prompt, as in llama-server; no further back than they look.
        windows = (params.repeat_last_n, params.dry_penalty_last_n)
        seen = 0 if min(windows) < 0 else max(0, len(request.prompt_tokens) - max(windows))
        for token in request.prompt_tokens[seen:]:
            sampler.accept(token)
        return sampler

    def _all_end_tokens(self) -> tuple[int, ...]:
        if self._end_tokens is None:
            vocabulary = range(self.info.n_vocab)
            self._end_tokens = tuple(t for t in vocabulary if self._model.is_end_of_generation(t))
        return self._end_tokens

    def _fail(self, batch: Batch, error: EngineError) -> None:
        sequences = [sequence for sequence, _count in batch.parts]
        for sequence in sequences:
            self._scheduler.forget_cache(sequence)
            self._scheduler.remove(sequence)
        self._deliver([(sequence, Failed(error)) for sequence in sequences])

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for sequence, event in outcomes:
            if isinstance(event, (Finished, Failed)):
                self._forget(sequence)
        if outcomes:
            self._post(lambda: self._call_sinks(outcomes))

    def _forget(self, sequence: Sequence) -> None:
        sampler = self._samplers.pop(sequence.id, None)
        if sampler is not None:
            sampler.close()
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
