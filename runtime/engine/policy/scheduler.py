"""What to compute next: `admit()` gives requests their places, `schedule()` plans a step, `commit()` takes its outcome.

Each step is one batch: the newest token of every sequence that generates, and with the room that is left a chunk of
the prompts that wait, oldest first, so that a long prompt never stalls the others. Sequences share one pool of cells.
When it runs out, first the caches of idle slots go, then the youngest sequence gives its cells back and waits; it
computes them again later, so nothing is lost. The oldest one always gets on, so every sequence ends.
What one client asks for at once is a group, and groups take turns (`turns`).

A cache that has to go is parked if it is worth it. With context shift, a sequence that fills the context drops a part
of its tokens and goes on, and when the pool runs out it is the longest that does so.

Policy only: no threads, no clocks, no llama.cpp. Times come in as seconds of any monotonic clock.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runtime.engine.policy.advance import advance, finish, progress
from runtime.engine.policy.batch import Batch, Sampled
from runtime.engine.policy.kv_cache import KVCache
from runtime.engine.policy.sequence import Sequence
from runtime.engine.policy.turns import (
    givers_for,
    in_turn,
    is_worth_waiting,
    next_in_turn,
    num_left_to_others,
    num_places,
    youngest_of_largest,
)
from runtime.engine.values.edits import Edit, MediaPart
from runtime.engine.values.events import Event, Finished, FinishReason, TokenProbs

Outcome = tuple[Sequence, Event]
PromptProbs = tuple[TokenProbs, ...]

# Where several clients' prompts are computed and nobody generates, a step has so many times the tokens as beside them.
_TIMES_BESIDE_PREFILL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerParams:
    """Sizes in tokens. `num_cells` is the pool, of which a sequence uses up to `n_ctx`.

    `n_batch` bounds a step; `num_prefill_beside_decode` its prompts' part while others generate. `num_outputs` bounds
    how many of a step's tokens have logits: at least one for each slot.
    `is_cuttable`: the model's memory can drop the end of a sequence; `can_shift`: its middle, too.
    `context_shift`: a full context drops a part. `num_always_kept` tokens stay in any case: BOS, where there is one.
    """

    num_slots: int
    num_cells: int
    n_ctx: int
    n_batch: int
    num_prefill_beside_decode: int
    num_outputs: int
    is_cuttable: bool = True
    can_shift: bool = True
    context_shift: bool = False
    num_always_kept: int = 0
    parking_bytes: int = 0


class Scheduler:
    """Owns all sequences from `add` to their last event; `cache` may be changed by others in idle slots alone."""

    def __init__(self, params: SchedulerParams) -> None:
        self._params = params
        self.cache = KVCache(
            params.num_slots,
            params.num_cells,
            is_cuttable=params.is_cuttable,
            can_shift=params.can_shift,
            parking_bytes=params.parking_bytes,
        )
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # oldest first
        self._last_lora: tuple[float, ...] = ()
        self._was_media = False
        self._admission_events: list[Outcome] = []  # delivered with the step's outcome

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def n_batch(self) -> int:
        return self._params.n_batch

    @property
    def sequences(self) -> list[Sequence]:
        return [*self._running, *self._waiting]

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that was cancelled or has failed; what is computed of it stays in its slot for reuse."""
        if sequence in self._running:
            self._stop(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def forget_cache(self, sequence: Sequence) -> None:
        """Empty the slot of a running sequence whose computation failed half way."""
        assert sequence.slot is not None
        self.cache.clear(self.cache.slots[sequence.slot])

    def restore_failed(self, slot_index: int) -> None:
        """A parked cache could not be brought back: the sequence that was to have it computes it."""
        sequence = next(sequence for sequence in self._running if sequence.slot == slot_index)
        self.forget_cache(sequence)
        sequence.num_computed = sequence.num_cached = 0

    # -- places -----------------------------------------------------------------------------------------------------

    def admit(self, now: float) -> list[Edit]:
        """Give waiting requests their places; return what must be done to the cache before `schedule` is called."""
        self.cache.tidy()
        passed_over: list[Sequence] = []
        while (sequence := next_in_turn(self._waiting, self._running, passed_over)) is not None:
            givers = givers_for(sequence, self._running, self.cache)
            if givers is None and sequence.params.slot is None:
                break
            if givers is None or (self._params.is_cuttable and is_worth_waiting(sequence, self._running, self.cache)):
                passed_over.append(sequence)  # others needn't wait for the slot or the cache that this one wants
                continue
            for giver in givers:
                self._preempt(giver)
            self._start(sequence, now)
        return self.cache.take_edits()

    def _start(self, sequence: Sequence, now: float) -> None:
        """Give a sequence its place."""
        place = self.cache.place_for(sequence)
        assert place is not None
        self._waiting.remove(sequence)
        self.cache.acquire(place, sequence)
        sequence.slot = place.slot.index
        sequence.num_computed = place.keep
        if sequence.started_at is None:
            sequence.started_at = now
            sequence.num_cached = place.keep
        if sequence.wants_progress:
            self._admission_events.append((sequence, progress(sequence, now)))
        self._running.append(sequence)

    # -- planning ---------------------------------------------------------------------------------------------------

    def schedule(self) -> Batch:
        """Plan the next step; a batch without entries means that there is nothing to do."""
        batch = Batch(lora=self._next_lora())
        if self._is_turn_of_media(batch.lora):
            return self._schedule_media(batch)
        generating = [sequence for sequence in self.generating if sequence.lora == batch.lora]
        if self._params.context_shift:
            self._shift_until_there_is_room_for(generating)
        for sequence in generating:
            if sequence.num_pending == 1 and sequence.slot is not None and self._make_room(sequence, batch):
                sequence.draft = sequence.draft[: self._num_to_draft(sequence, len(batch.entries), len(generating))]
                self._append(batch, sequence, 1)
        budget = min(self._num_to_prefill, self._params.n_batch - len(batch.entries))
        prefilling = in_turn([each for each in self._prefilling(batch.lora) if each.next_media is None])
        for num_planned, sequence in enumerate(prefilling, 1):
            if budget > 0 and sequence.slot is not None and self._make_room(sequence, batch):
                count = min(sequence.num_pending_alike, budget, self.cache.slots.num_free_cells)
                if num_planned == 1:
                    count = min(count, budget - num_left_to_others(prefilling, budget))
                if sequence.num_unscored:  # those after it keep an output each, for their prompts' ends
                    num_kept = len(prefilling) - num_planned
                    count = min(count, self._params.num_outputs - batch.num_outputs - num_kept)
                self._append(batch, sequence, count)
                budget -= count
        batch.edits = self.cache.take_edits()
        return batch

    @property
    def _num_to_prefill(self) -> int:
        # Also beside those who generate with other adapters: their turn comes after this step.
        n_batch, beside_decode = self._params.n_batch, self._params.num_prefill_beside_decode
        if self.generating:
            return min(beside_decode, n_batch)
        # Another client's short prompt, and then its answer, must not wait for long steps either.
        is_alone = len({sequence.group for sequence in self._running}) == 1
        return n_batch if is_alone else min(_TIMES_BESIDE_PREFILL * beside_decode, n_batch)

    def _prefilling(self, lora: tuple[float, ...]) -> list[Sequence]:
        return [sequence for sequence in self._running if sequence.num_pending > 1 and sequence.lora == lora]

    def _is_turn_of_media(self, lora: tuple[float, ...]) -> bool:
        """Whether this step is a picture's: a batch has tokens or a picture, and where both wait they take turns."""
        at_media = [sequence.next_media is not None for sequence in self._running if sequence.lora == lora]
        self._was_media = any(at_media) and not (self._was_media and not all(at_media))
        return self._was_media

    def _schedule_media(self, batch: Batch) -> Batch:
        """Plan a step for the oldest sequence whose next tokens are a picture's: as many as may be, or all of them."""
        sequence = next(each for each in self._prefilling(batch.lora) if each.next_media is not None)
        media = sequence.next_media
        assert media is not None
        rest = media.end - sequence.num_computed
        if self._make_room(sequence, batch, 1 if media.is_causal else rest):
            assert sequence.slot is not None
            count = min(rest, self._num_to_prefill, self.cache.slots.num_free_cells) if media.is_causal else rest
            first = sequence.num_computed - media.start
            batch.media = MediaPart(media, first, count, sequence.position(media.start) + first, sequence.slot)
            self.cache.slots[sequence.slot].tokens += media.stand_ins()[first : first + count]
            batch.parts.append((sequence, count))
        batch.edits = self.cache.take_edits()
        return batch

    def _next_lora(self) -> tuple[float, ...]:
        """Return the scales of this step's adapters: a batch has but one setting, so they take turns."""
        settings = list(dict.fromkeys(sequence.lora for sequence in self._running))
        if self._last_lora in settings:
            self._last_lora = settings[(settings.index(self._last_lora) + 1) % len(settings)]
        else:
            self._last_lora = settings[0] if settings else ()
        return self._last_lora

    @property
    def generating(self) -> list[Sequence]:
        """The sequences that have but their newest token to compute, oldest first."""
        return [sequence for sequence in self._running if sequence.num_pending == 1]

    def _num_to_draft(self, sequence: Sequence, num_planned: int, num_generating: int) -> int:
        """How many guessed tokens have room: in the batch beside the others, in the pool, and in the answer."""
        room = min(
            self._params.n_batch - num_planned - num_generating,
            self.cache.slots.num_free_cells - num_generating,
            self._params.n_ctx - len(sequence.tokens) - 1,
        )
        if sequence.params.max_tokens is not None:
            room = min(room, sequence.params.max_tokens - sequence.num_generated - 1)
        return max(room, 0)

    def _make_room(self, sequence: Sequence, batch: Batch, num_cells: int = 1) -> bool:
        """Free cells for `sequence`: idle ones, then those of the largest group's youngest; False if it has to wait."""
        planned = {id(part) for part, _count in batch.parts}
        while self.cache.slots.num_free_cells < num_cells:
            if self.cache.give_up_an_idle_cache():
                continue
            others = [other for other in self._running if id(other) not in planned]
            givers = [other for other in others if other is not self._running[0]]
            if not givers and planned:  # the oldest of all keeps its cells; in the next step others have to give theirs
                return False
            youngest = youngest_of_largest(givers or others, num_places(self._running))
            assert youngest is not None  # `sequence` isn't planned
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self.cache.give_up(self.cache.slots[sequence.slot])
        self._stop(sequence)
        sequence.slot = None
        sequence.num_computed = 0
        sequence.draft = ()
        self._waiting.appendleft(sequence)

    def _shift_until_there_is_room_for(self, generating: list[Sequence]) -> None:
        while self.cache.slots.num_free_cells + self.cache.slots.num_idle_cells < len(generating):
            if not self._shift(max(generating, key=lambda sequence: len(sequence.tokens))):
                return

    def _shift(self, sequence: Sequence) -> bool:
        params = self._params
        return self.cache.shift(sequence, n_ctx=params.n_ctx, num_always_kept=params.num_always_kept)

    def _append(self, batch: Batch, sequence: Sequence, count: int) -> None:
        assert sequence.slot is not None
        self.cache.slots[sequence.slot].tokens += batch.add(sequence, count)

    # -- outcome ----------------------------------------------------------------------------------------------------

    def commit(
        self, batch: Batch, sampled: Iterable[Sampled], now: float, scored: Mapping[int, PromptProbs] | None = None
    ) -> list[Outcome]:
        """Take a step that was computed and the tokens sampled from it; return the events for the clients.

        `scored` has the probabilities of the batch's `scores`, by the sequences' ids.

        Of a sequence with a draft several tokens may come, in their order: all but the last as they were guessed.
        A sequence's `Finished` is its last event, and the scheduler has forgotten it then.
        """
        sampled = list(sampled)
        num_sampled = Counter(each.sequence.id for each in sampled)
        for sequence, count in batch.parts:
            sequence.num_computed += count
            if sequence.draft:
                self._settle_draft(sequence, max(num_sampled[sequence.id] - 1, 0))
        outcomes, self._admission_events = self._admission_events, []
        for sequence, _count in batch.parts:
            if sequence.wants_progress:
                probs = (scored or {}).get(sequence.id, ())
                sequence.num_scored += len(probs)
                outcomes.append((sequence, progress(sequence, now, probs)))
        for each in sampled:
            if each.sequence in self._running:  # it may have ended with an earlier one
                outcomes += self._take(each, now)
        return outcomes

    def _settle_draft(self, sequence: Sequence, num_accepted: int) -> None:
        """Keep what was guessed rightly and drop the rest from the cache."""
        assert sequence.slot is not None
        sequence.num_computed += num_accepted
        sequence.num_drafted += len(sequence.draft)
        sequence.num_accepted += num_accepted
        sequence.num_drafts += 1
        if num_accepted < len(sequence.draft):
            del self.cache.slots[sequence.slot].tokens[sequence.num_computed :]
            self.cache.cut(self.cache.slots[sequence.slot], sequence.position(sequence.num_computed))
        sequence.draft = ()

    def _take(self, sampled: Sampled, now: float) -> list[Outcome]:
        sequence = sampled.sequence
        events = advance(sequence, sampled, now)
        is_full = len(sequence.tokens) >= self._params.n_ctx
        if (
            not isinstance(events[-1], Finished)
            and is_full
            and not (self._params.context_shift and self._shift(sequence))
        ):
            sequence.is_truncated = True
            events += finish(sequence, FinishReason.LENGTH, now)
        if isinstance(events[-1], Finished):
            self._stop(sequence)
        return [(sequence, event) for event in events]

    def _stop(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._running.remove(sequence)
        self.cache.release(self.cache.slots[sequence.slot])
