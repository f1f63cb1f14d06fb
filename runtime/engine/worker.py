"""What the engine's thread does: take what has come in, compute one step, deliver the events.

One turn is one step of the sequences and, beside it, a small one of the texts that are to become vectors. Knows no
lock and no thread: `Engine` calls it from the one thread that owns the context.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from runtime.engine.adapters import Adapters
from runtime.engine.choosing import Choosers
from runtime.engine.drafting import MAX_SEQUENCES_DRAFTED, Drafts, ModelGuesser
from runtime.engine.native import Aborted, Context, Model, NoRoom
from runtime.engine.policy.batch import Batch, Sampled
from runtime.engine.policy.scheduler import Outcome, Scheduler, SchedulerParams
from runtime.engine.policy.sequence import Sequence
from runtime.engine.policy.speculation import PromptLookup
from runtime.engine.slot_commands import carry_out, is_ready
from runtime.engine.threads import PacedSteps, default_num_threads
from runtime.engine.values.commands import Command
from runtime.engine.values.edits import Edit
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import Failed, Finished
from runtime.engine.values.facts import ModelInfo, Pooling
from runtime.engine.values.media import MediaKind
from runtime.engine.values.meter import Meter
from runtime.engine.values.params import EngineParams
from runtime.engine.values.sampling import SamplingParams
from runtime.engine.vectors import Embedder, EmbeddingQueue
from runtime.errors import EngineError, HoldallError, RequestError
from runtime.nursery import Patience

Post = Callable[[Callable[[], None]], object]
Asked = tuple[Command[Any], Callable[[Any], None]]

# Beside sequences that generate, a step computes at most this many prompt tokens: enough to use the processor well
# (the matrices are read once for all of them), few enough that the others' next token isn't late.
_NUM_PREFILL_BESIDE_DECODE = 64


@dataclass(slots=True)
class Arrivals:
    """What has come in since the last turn."""

    submitted: list[Sequence] = field(default_factory=list)
    cancelled: list[Sequence] = field(default_factory=list)
    commands: list[Asked] = field(default_factory=list)
    jobs: list[EmbeddingJob] = field(default_factory=list)


class Worker:
    """Owns the context. `deliver` takes a step's events, `post` a function for the thread where sinks are called."""

    def __init__(
        self,
        model: Model,
        params: EngineParams,
        adapters: Adapters,
        *,
        draft_model: Model | None,
        sees_pictures_whole: bool,
        post: Post,
        deliver: Callable[[list[Outcome]], object],
    ) -> None:
        """Make the context. Raises ModelError when its memory can't be had or the draft model doesn't fit the model."""
        self._adapters = adapters
        self._post = post
        self._deliver = deliver
        num_threads = params.num_threads or default_num_threads()
        is_speculative = params.draft_max > 0 and (draft_model is not None or params.has_lookup)
        num_drafted = min(params.num_slots, MAX_SEQUENCES_DRAFTED) * params.draft_max if is_speculative else 0
        num_outputs = min(params.num_slots + num_drafted, params.n_batch)
        self.context = Context(
            model,
            n_ctx=params.n_ctx,
            n_batch=params.n_batch,
            num_slots=params.num_slots,
            num_threads=num_threads,
            num_outputs=num_outputs,
            keeps_batches_whole=sees_pictures_whole,
        )
        self.paced = PacedSteps(params.num_threads)
        self.scheduler = Scheduler(_scheduler_params(model, params, self.context, num_outputs))
        self._drafts: Drafts | None = None
        self.speculation = "none"
        if is_speculative and model.facts.is_memory_cuttable:
            self._drafts = Drafts(_guesser(model, draft_model, self.context.n_ctx, num_threads), params.draft_max)
            self.speculation = "ngram-simple" if draft_model is None else "draft-simple"
        self.pooling = params.pooling or model.facts.pooling or Pooling.MEAN
        self.max_text_tokens = min(model.facts.n_ctx_train, self.context.n_ctx)
        self._embeddings = EmbeddingQueue(
            Embedder(
                model,
                self.pooling,
                adapters,
                looks_back_only=self.context.is_causal,
                max_text_tokens=self.max_text_tokens,
                num_threads=num_threads,
            )
        )
        self.meter = Meter()
        self._choosers = Choosers(model, self.context)
        self._commands: list[Asked] = []  # whose slots are busy
        self._has_ended = False

    @property
    def has_work(self) -> bool:
        is_computing = self.scheduler.num_running or self.scheduler.num_waiting or self._embeddings.num_jobs
        return bool(is_computing or self._commands)

    @property
    def num_jobs(self) -> int:
        return self._embeddings.num_jobs

    def turn(self, arrivals: Arrivals) -> None:
        """Take what has come in and compute one step."""
        for sequence in arrivals.submitted:
            self.scheduler.add(sequence)
        for sequence in arrivals.cancelled:
            self.scheduler.remove(sequence)
            self._end(sequence)
        self._carry_out(arrivals.commands)
        for job in arrivals.jobs:
            self._embeddings.add(job)
        self._step()
        self._embed()

    def prepare(self, sampling: SamplingParams, patience: Patience | None) -> None:
        """Prepare what chooses by these settings. Blocks; any thread but the engine's. Raises NoTimeLeft."""
        self._choosers.prepare(sampling, patience)

    def abort(self) -> None:
        """Stop what is being computed, and everything later. Any thread."""
        self.context.abort()
        self._embeddings.abort()
        if self._drafts is not None:
            self._drafts.abort()

    def end(self, reason: HoldallError) -> None:
        """Answer those who wait for vectors or for a slot with the reason why nothing will come; once is enough."""
        if self._has_ended:
            return
        self._has_ended = True
        for job in self._embeddings.close():
            self._post(partial(job.sink, reason))
        for _command, answer in self._commands:
            self._post(partial(answer, reason))
        self._choosers.close()
        self.paced.close()

    def close(self) -> None:
        """Free the contexts, once nobody computes on them."""
        self.context.close()
        if self._drafts is not None:
            self._drafts.close()

    def _carry_out(self, commands: list[Asked]) -> None:
        """Carry out the commands whose slots are idle; the others are taken up again after this step."""
        waiting, self._commands = [*self._commands, *commands], []
        for command, answer in waiting:
            if not is_ready(command, self.scheduler):
                self._commands.append((command, answer))
                continue
            try:
                outcome = carry_out(command, self.scheduler, self.context, time.monotonic())
            except HoldallError as error:
                outcome = error
            except Exception as error:  # a bug of ours: only the one who gave the command hears of it
                outcome = EngineError(f"a command to the engine failed: {error!r}")
            self._post(partial(answer, outcome))

    def _step(self) -> None:
        self._edit(self.scheduler.admit(time.monotonic()))
        if self._drafts is not None:
            self._drafts.give_to(self.scheduler.generating, self.paced.num_threads())
        batch = self.scheduler.schedule()
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
        self.meter.count_step(len(batch.parts))
        self._deliver_outcome(batch)

    def _deliver_outcome(self, batch: Batch) -> None:
        """Choose the next tokens and deliver what they mean."""
        scored = {each.id: self._choosers.score(each, index, tokens) for each, index, tokens in batch.scores}
        sampled: list[Sampled] = []
        failures: list[Outcome] = []
        for sequence, index in batch.outputs:
            try:
                sampled += self._choosers.sample(sequence, index)
            except RequestError as error:
                failures.append((sequence, Failed(error)))
        outcomes = self.scheduler.commit(batch, sampled, time.monotonic(), scored)
        for sequence, _failed in failures:
            self.scheduler.remove(sequence)
        self.end_and_deliver(outcomes + failures)

    def end_and_deliver(self, outcomes: list[Outcome]) -> None:
        for sequence, event in outcomes:
            if isinstance(event, (Finished, Failed)):
                self._end(sequence)
        if outcomes:
            self._deliver(outcomes)

    def _decode(self, batch: Batch) -> None:
        self._adapters.apply(self.context, batch.lora)
        self.paced.compute(lambda: self.context.compute(batch.entries, batch.media), self.context.set_threads)

    def _edit(self, edits: list[Edit]) -> None:
        for failed in self.context.edit(edits):
            self.scheduler.restore_failed(failed.slot)

    def _embed(self) -> None:
        """Compute a step of the texts that are to become vectors, a small one beside sequences."""
        if not self._embeddings.num_jobs:
            return
        is_alone = not (self.scheduler.num_running or self.scheduler.num_waiting)
        try:
            max_tokens = sys.maxsize if is_alone else _NUM_PREFILL_BESIDE_DECODE
            ended = self._embeddings.step(max_tokens, self.paced.num_threads())
        except Aborted:
            return  # only `close` aborts; the next turn sees it
        self.paced.count_tasks()
        if ended is not None:
            job, error = ended
            self._post(partial(job.sink, error or job))

    def _fail(self, batch: Batch, error: EngineError) -> None:
        sequences = [sequence for sequence, _count in batch.parts]
        for sequence in sequences:
            self.scheduler.forget_cache(sequence)
            self.scheduler.remove(sequence)
        self.end_and_deliver([(sequence, Failed(error)) for sequence in sequences])

    def _end(self, sequence: Sequence) -> None:
        self.meter.count_sequence(sequence.timings(time.monotonic()))
        self._choosers.forget(sequence)
        if self._drafts is not None:
            self._drafts.forget(sequence)


def model_info(model: Model, params: EngineParams, worker: Worker, media_kinds: frozenset[MediaKind]) -> ModelInfo:
    """Return the model as an engine with these parameters serves it."""
    return ModelInfo(
        **asdict(model.facts),
        n_ctx=_n_ctx(params, worker.context),
        num_slots=params.num_slots,
        speculation=worker.speculation,
        is_causal=worker.context.is_causal,
        media_kinds=media_kinds,
    )


def _n_ctx(params: EngineParams, context: Context) -> int:
    """Return how many tokens one sequence may have."""
    return context.n_ctx if params.is_shared else context.n_ctx // params.num_slots


def _scheduler_params(model: Model, params: EngineParams, context: Context, num_outputs: int) -> SchedulerParams:
    return SchedulerParams(
        num_slots=params.num_slots,
        num_cells=context.n_ctx,
        n_ctx=_n_ctx(params, context),
        n_batch=params.n_batch,
        num_prefill_beside_decode=_NUM_PREFILL_BESIDE_DECODE,
        num_outputs=num_outputs,
        is_cuttable=model.facts.is_memory_cuttable,
        can_shift=context.can_shift,
        context_shift=params.context_shift,
        num_always_kept=int(model.facts.add_bos),
        parking_bytes=params.parking_bytes,
    )


def _guesser(model: Model, draft: Model | None, n_ctx: int, num_threads: int) -> PromptLookup | ModelGuesser:
    if draft is None:
        return PromptLookup()
    return ModelGuesser(draft, model, n_ctx=n_ctx, num_slots=MAX_SEQUENCES_DRAFTED, num_threads=num_threads)
