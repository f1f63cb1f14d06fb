"""What to compute next: `admit()` gives requests their places, `schedule()` plans a step, `commit()` takes its outcome.

Each step is one batch: the newest token of every sequence that generates, and with the room that is left a chunk of
the prompts that wait, oldest first, so that a long prompt never stalls the others. Sequences share one pool of cells.
When it runs out, first the caches of idle slots go, then the youngest sequence gives its cells back and waits; it
computes them again later, so nothing is lost. The oldest one always gets on, so every sequence ends.

A cache that has to go is parked if it is worth it. With context shift, a sequence that fills the context drops a part
of its tokens and goes on, and when the pool runs out it is the longest that does so.

Policy only: no threads, no clocks, no llama.cpp. Times come in as seconds of any monotonic clock.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runtime.engine.policy.batch import Batch, BatchEntry, Copy, Cut, Edit, MediaPart, Park, Restore, Sampled, Shift
from runtime.engine.policy.parking import ParkingLot
from runtime.engine.policy.sequence import Event, Finished, FinishReason, Progress, Sequence, TextDelta, TokenProbs
from runtime.engine.policy.slots import Place, Slot, Slots, common_prefix_length

Outcome = tuple[Sequence, Event]
PromptProbs = tuple[TokenProbs, ...]

# A prompt waits for another that is computing at least so many tokens of their common beginning.
_WORTH_WAITING = 64
# A cache is parked, and brought back, for at least so many tokens.
_WORTH_PARKING = 32
# So many tokens a shift leaves beside those that a request wants to keep, as in llama.cpp.
_NUM_NEVER_KEPT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerParams:
    """Sizes in tokens. `num_cells` is the pool, of which a sequence uses up to `n_ctx`.

    `n_batch` bounds a step; `num_prefill_beside_decode` its prompts' part while others generate. `num_outputs` bounds
    how many of a step's tokens have logits: at least one for each slot.
    `is_cuttable` tells whether the model's memory can drop the end of a sequence, `can_shift` whether its middle.
    `context_shift` is whether a full context shall. `num_always_kept` tokens stay in any case: BOS, where there is one.
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
    """Owns all sequences from `add` to their last event."""

    def __init__(self, params: SchedulerParams) -> None:
        self._params = params
        self._slots = Slots(params.num_slots, params.num_cells, is_cuttable=params.is_cuttable)
        self._lot = ParkingLot(params.parking_bytes, is_cuttable=params.is_cuttable)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # oldest first
        self._edits: list[Edit] = []
        self._last_lora: tuple[float, ...] = ()
        self._was_media = False
        self._news: list[Outcome] = []  # of admissions, told with the step's outcome

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def n_ctx(self) -> int:
        return self._params.n_ctx

    @property
    def n_batch(self) -> int:
        return self._params.n_batch

    @property
    def slots(self) -> Slots:
        """For reading; changes go through the methods here."""
        return self._slots

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
        self._slots[sequence.slot].clear()
        self._edits.append(Cut(sequence.slot, 0))

    def restore_failed(self, slot_index: int) -> None:
        """A parked cache could not be brought back: the sequence that was to have it computes it."""
        sequence = next(sequence for sequence in self._running if sequence.slot == slot_index)
        self.forget_cache(sequence)
        sequence.num_computed = sequence.num_cached = 0

    def take_edits(self) -> list[Edit]:
        """Return what must be done to the cache before anything else is; the caller does it."""
        edits, self._edits = self._edits, []
        return edits

    # -- idle slots, by hand ------------------------------------------------------------------------------------------

    def erase(self, index: int) -> int:
        """Empty an idle slot; return how many tokens it held."""
        slot = self._slots[index]
        assert not slot.is_busy
        num_erased = len(slot.tokens)
        slot.clear()
        self._edits.append(Cut(index, 0))
        return num_erased

    def fill(self, index: int, tokens: list[int]) -> None:
        """Note what an idle slot's cache holds now, computed without adapters."""
        slot = self._slots[index]
        assert not slot.is_busy
        slot.tokens[:] = tokens
        slot.lora = ()

    def make_idle_room(self, num_cells: int) -> bool:
        """Free so many cells at the cost of idle slots' caches alone; False when they aren't enough."""
        while self._slots.num_free_cells < num_cells:
            if not self._give_up_an_idle_cache():
                return False
        return True

    # -- places -----------------------------------------------------------------------------------------------------

    def admit(self, now: float) -> list[Edit]:
        """Give waiting requests their places; return what must be done to the cache before `schedule` is called."""
        self._lot.tidy()
        for sequence in list(self._waiting):
            place = self._place_for(sequence)
            if place is None and sequence.request.slot is not None:
                continue  # others needn't wait for the slot that this one wants
            if place is None or self._is_worth_waiting(sequence, place):
                break
            promised = sum(other.num_pending for other in self._running)
            # What the slot itself keeps is counted as idle but won't be given up; what it shares is counted twice.
            available = self._slots.num_free_cells + self._slots.num_idle_cells - place.num_kept
            if self._running and len(sequence.tokens) - place.num_kept + promised >= available:
                break
            self._waiting.remove(sequence)
            self._prepare(place, sequence)
            sequence.slot = place.slot.index
            sequence.num_computed = place.keep
            if sequence.started_at is None:
                sequence.started_at = now
                sequence.num_cached = place.keep
            if sequence.wants_progress:
                self._news.append((sequence, _progress(sequence, now)))
            self._running.append(sequence)
        return self.take_edits()

    def _place_for(self, sequence: Sequence) -> Place | None:
        place = self._slots.best_for(sequence.tokens, wanted=sequence.request.slot, lora=sequence.lora)
        if place is None or not sequence.request.uses_cache:
            return place and Place(place.slot, 0)
        found = self._lot.best_for(sequence.tokens, sequence.lora)
        if found and found[1] >= place.keep + _WORTH_PARKING:
            parked, keep = found
            spare = self._slots.spare_for(len(parked.tokens), wanted=sequence.request.slot)
            if spare:
                return Place(spare, keep, parked=parked)
        return place

    def _prepare(self, place: Place, sequence: Sequence) -> None:
        """Take a slot and note what makes it ready."""
        slot = place.slot
        keep = sequence.position(place.keep)
        if 2 * place.num_kept < len(slot.tokens):  # what goes is another conversation, not the end of this one
            self._park(slot)
        if place.num_kept < len(slot.tokens):
            self._edits.append(Cut(slot.index, sequence.position(place.num_kept)))
        if place.donor:
            self._edits.append(Copy(place.donor.index, slot.index, keep))
        if place.parked:
            self._lot.take(place.parked)
            self._edits.append(Restore(slot.index, place.parked))
            if place.keep < len(place.parked.tokens):
                self._edits.append(Cut(slot.index, keep))
        self._slots.acquire(place, sequence.lora)

    def _park(self, slot: Slot) -> None:
        """Have a cache copied out that is about to be lost, if it is worth it."""
        is_worth_it = len(slot.tokens) >= _WORTH_PARKING and not slot.is_shifted and not slot.has_media
        if self._lot.is_open and is_worth_it and not self._slots.is_held_twice(slot):
            self._edits.append(Park(slot.index, self._lot.add(slot.tokens, slot.lora), self._lot.limit_bytes))

    def _give_up(self, slot: Slot) -> None:
        self._park(slot)
        slot.clear()
        self._edits.append(Cut(slot.index, 0))

    def _is_worth_waiting(self, sequence: Sequence, place: Place) -> bool:
        """Whether a prompt that is being computed will soon have much more of this one's beginning to share."""
        if not (self._params.is_cuttable and sequence.request.uses_cache):
            return False
        return any(
            common_prefix_length(other.tokens, sequence.tokens) - max(place.keep, other.num_computed) >= _WORTH_WAITING
            for other in self._running
            if other.num_pending > 1 and other.lora == sequence.lora
        )

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
        prefilling = [sequence for sequence in self._prefilling(batch.lora) if sequence.next_media is None]
        for num_planned, sequence in enumerate(prefilling, 1):
            if budget > 0 and sequence.slot is not None and self._make_room(sequence, batch):
                count = min(sequence.num_pending_alike, budget, self._slots.num_free_cells)
                if sequence.num_unscored:  # those after it keep an output each, for their prompts' ends
                    num_kept = len(prefilling) - num_planned
                    count = min(count, self._params.num_outputs - batch.num_outputs - num_kept)
                self._append(batch, sequence, count)
                budget -= count
        batch.edits = self.take_edits()
        return batch

    @property
    def _num_to_prefill(self) -> int:
        # Also beside those who generate with other adapters: their turn comes after this step.
        n_batch = self._params.n_batch
        return min(self._params.num_prefill_beside_decode, n_batch) if self.generating else n_batch

    def _prefilling(self, lora: tuple[float, ...]) -> list[Sequence]:
        return [sequence for sequence in self._running if sequence.num_pending > 1 and sequence.lora == lora]

    def _is_turn_of_media(self, lora: tuple[float, ...]) -> bool:
        """Whether this step is for a picture, since tokens can't be in one with it: each second one where both wait."""
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
            count = min(rest, self._num_to_prefill, self._slots.num_free_cells) if media.is_causal else rest
            first = sequence.num_computed - media.start
            batch.media = MediaPart(media, first, count, sequence.position(media.start) + first, sequence.slot)
            self._slots[sequence.slot].tokens += media.stand_ins()[first : first + count]
            batch.parts.append((sequence, count))
        batch.edits = self.take_edits()
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
            self._slots.num_free_cells - num_generating,
            self._params.n_ctx - len(sequence.tokens) - 1,
        )
        if sequence.request.max_tokens is not None:
            room = min(room, sequence.request.max_tokens - sequence.num_generated - 1)
        return max(room, 0)

    def _make_room(self, sequence: Sequence, batch: Batch, num_cells: int = 1) -> bool:
        """Free cells for `sequence`, at the cost of idle caches, then of the youngest; False when it was the cost."""
        planned = {id(part) for part, _count in batch.parts}
        while self._slots.num_free_cells < num_cells:
            if self._give_up_an_idle_cache():
                continue
            youngest = next(other for other in reversed(self._running) if id(other) not in planned)
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _give_up_an_idle_cache(self) -> bool:
        slot = self._slots.next_to_give_up()
        if slot is not None:
            self._give_up(slot)
        return slot is not None

    def _preempt(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._give_up(self._slots[sequence.slot])
        self._stop(sequence)
        sequence.slot = None
        sequence.num_computed = 0
        sequence.draft = ()
        self._waiting.appendleft(sequence)

    def _shift_until_there_is_room_for(self, generating: list[Sequence]) -> None:
        while self._slots.num_free_cells + self._slots.num_idle_cells < len(generating):
            if not self._shift(max(generating, key=lambda sequence: len(sequence.tokens))):
                return

    def _shift(self, sequence: Sequence) -> bool:
        """Drop tokens after those that are kept, half of them if the request doesn't say; False when none can go."""
        assert sequence.slot is not None
        if sequence.media:  # a picture's place in the prompt is fixed
            return False
        request, slot = sequence.request, self._slots[sequence.slot]
        wanted = request.n_keep if request.n_keep >= 0 else len(request.prompt_tokens)
        keep = min(wanted + self._params.num_always_kept, self._params.n_ctx - _NUM_NEVER_KEPT)
        num_left = len(sequence.tokens) - 1 - keep
        discard = min(request.n_discard or num_left // 2, num_left - 1)
        if discard < 1:
            return False
        del sequence.tokens[keep : keep + discard]
        sequence.draft = ()
        sequence.is_truncated = True
        # A cell has one position, whoever shares it: those that would move must be this slot's alone.
        if self._params.can_shift and max(slot.num_shared, keep) <= keep + discard <= sequence.num_computed:
            self._edits.append(Shift(slot.index, keep, discard))
            del slot.tokens[keep : keep + discard]
            slot.num_shared = min(slot.num_shared, keep)
            slot.is_shifted = True
            sequence.num_computed -= discard
        else:
            rest = min(keep, sequence.num_computed) if self._params.is_cuttable and not slot.is_shifted else 0
            self._edits.append(Cut(slot.index, rest))
            del slot.tokens[rest:]
            sequence.num_computed = rest
        return True

    def _append(self, batch: Batch, sequence: Sequence, count: int) -> None:
        """Plan `count` pending tokens, and behind the newest one those that are guessed to follow."""
        assert sequence.slot is not None
        start, end = sequence.num_computed, sequence.num_computed + count
        is_last = end == len(sequence.tokens)
        tokens = [*sequence.tokens[start:end], *sequence.draft]
        scored_from = end
        if sequence.num_unscored:  # each token's logits tell of the one after it
            scored_from = sequence.num_scored - 1
            scored = sequence.tokens[scored_from + 1 : min(end + 1, len(sequence.request.prompt_tokens))]
            batch.scores.append((sequence, len(batch.entries) + scored_from - start, scored))
        if is_last:
            batch.outputs.append((sequence, len(batch.entries) + count - 1))
        position = sequence.position(start)
        for index, token in enumerate(tokens, start):
            wants_logits = (is_last and index >= end - 1) or scored_from <= index < end
            batch.entries.append(BatchEntry(token, position + index - start, sequence.slot, wants_logits))
        self._slots[sequence.slot].tokens += tokens
        batch.parts.append((sequence, count))

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
        num_sampled = Counter(choice.sequence.id for choice in sampled)
        for sequence, count in batch.parts:
            sequence.num_computed += count
            if sequence.draft:
                self._settle_draft(sequence, max(num_sampled[sequence.id] - 1, 0))
        outcomes, self._news = self._news, []
        for sequence, _count in batch.parts:
            if sequence.wants_progress:
                probs = (scored or {}).get(sequence.id, ())
                sequence.num_scored += len(probs)
                outcomes.append((sequence, _progress(sequence, now, probs)))
        for choice in sampled:
            if choice.sequence in self._running:  # it may have ended with an earlier one
                self._take(choice, now, outcomes)
        return outcomes

    def _settle_draft(self, sequence: Sequence, num_accepted: int) -> None:
        """Keep what was guessed rightly and drop the rest from the cache."""
        assert sequence.slot is not None
        sequence.num_computed += num_accepted
        sequence.num_drafted += len(sequence.draft)
        sequence.num_accepted += num_accepted
        if num_accepted < len(sequence.draft):
            del self._slots[sequence.slot].tokens[sequence.num_computed :]
            self._edits.append(Cut(sequence.slot, sequence.position(sequence.num_computed)))
        sequence.draft = ()

    def _take(self, choice: Sampled, now: float, outcomes: list[Outcome]) -> None:
        sequence = choice.sequence
        request = sequence.request
        if sequence.first_token_at is None:
            sequence.first_token_at = now
        if request.max_tokens == 0:  # the prompt was to be computed, nothing more
            self._finish(sequence, FinishReason.LENGTH, now, outcomes)
            return
        sequence.tokens.append(choice.token)
        sequence.num_generated += 1
        # Where a grammar leaves nothing but the end, a token that is never to be chosen is chosen all the same.
        if choice.is_end and (not request.ignore_eos or sequence.constraint is not None):
            self._finish(sequence, FinishReason.END_OF_TEXT, now, outcomes, choice)
            return
        text = sequence.text.feed(choice.piece)
        timings = sequence.timings(now) if request.wants_timings else None
        probs = (choice.probs,) if choice.probs else ()
        outcomes.append((sequence, TextDelta(text, (choice.token,), probs, _slot(sequence), timings)))
        if sequence.text.stopping_string:
            self._finish(sequence, FinishReason.STOP_STRING, now, outcomes)
            return
        if self._is_out_of_time(sequence, choice.piece, now) or sequence.num_generated == request.max_tokens:
            self._finish(sequence, FinishReason.LENGTH, now, outcomes)
        elif len(sequence.tokens) >= self._params.n_ctx and not (self._params.context_shift and self._shift(sequence)):
            sequence.is_truncated = True
            self._finish(sequence, FinishReason.LENGTH, now, outcomes)

    def _is_out_of_time(self, sequence: Sequence, piece: bytes, now: float) -> bool:
        """Whether this piece ends a line and the time for generating is over (llama.cpp's `t_max_predict_ms`)."""
        if b"\n" not in piece:
            return False
        sequence.has_new_line = True
        limit, started = sequence.request.max_seconds, sequence.first_token_at
        return limit is not None and started is not None and now - started > limit

    def _finish(
        self, sequence: Sequence, reason: FinishReason, now: float, outcomes: list[Outcome], end: Sampled | None = None
    ) -> None:
        rest = sequence.text.finish()
        if rest:
            outcomes.append((sequence, TextDelta(rest, (), slot=_slot(sequence))))
        timings, stop = sequence.timings(now), sequence.text.stopping_string
        ended_by = (end.token, end.probs) if end else (None, None)
        last = Finished(reason, timings, stop, _slot(sequence), sequence.is_truncated, *ended_by)
        outcomes.append((sequence, last))
        self._stop(sequence)

    def _stop(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._running.remove(sequence)
        slot = self._slots[sequence.slot]
        self._slots.release(slot)
        if slot.is_shifted:  # of no use to any other text
            self._give_up(slot)


def _slot(sequence: Sequence) -> int:
    return -1 if sequence.slot is None else sequence.slot


def _progress(sequence: Sequence, now: float, probs: PromptProbs = ()) -> Progress:
    return Progress(len(sequence.request.prompt_tokens), sequence.timings(now), _slot(sequence), probs)
