"""What to compute next: `schedule()` plans a step, `commit()` takes its outcome.

Each step is one batch: the newest token of every sequence that generates, and with the room that is left a chunk of
the prompts that wait, oldest first, so that a long prompt never stalls the others. Sequences share one pool of cells.
When it runs out, first the caches of idle slots go, then the youngest sequence gives its cells back and waits; it
computes them again later, so nothing is lost. The oldest one always gets on, so every sequence ends.

Policy only: no threads, no clocks, no llama.cpp. Times come in as seconds of any monotonic clock.
"""

from collections import deque
from collections.abc import Iterable

from runtime.engine.batch import Batch, BatchEntry, Copy, Cut, Sampled
from runtime.engine.sequence import Event, Finished, FinishReason, Progress, Sequence, TextDelta
from runtime.engine.slots import Place, Slots, common_prefix_length

Outcome = tuple[Sequence, Event]

# A prompt waits for another that is computing at least so many tokens of their common beginning.
_WORTH_WAITING = 64


class Scheduler:
    """Owns all sequences from `add` to their last event."""

    def __init__(
        self, *, num_slots: int, n_ctx: int, n_batch: int, num_prefill_beside_decode: int, is_cuttable: bool
    ) -> None:
        """`n_batch` bounds the tokens of a step; `num_prefill_beside_decode` those of prompts while others generate."""
        self._slots = Slots(num_slots, n_ctx, is_cuttable=is_cuttable)
        self._is_cuttable = is_cuttable
        self._n_ctx = n_ctx
        self._n_batch = n_batch
        self._num_prefill_beside_decode = num_prefill_beside_decode
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # oldest first
        self._edits: list[Cut | Copy] = []
        self._news: list[Outcome] = []  # of admissions, told with the step's outcome

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def n_ctx(self) -> int:
        return self._n_ctx

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
        self._slots[sequence.slot].tokens.clear()
        self._edits.append(Cut(sequence.slot, 0))

    # -- idle slots, by hand ------------------------------------------------------------------------------------------

    def erase(self, index: int) -> int:
        """Empty an idle slot; return how many tokens it held."""
        slot = self._slots[index]
        assert not slot.is_busy
        num_erased = len(slot.tokens)
        slot.tokens.clear()
        self._edits.append(Cut(index, 0))
        return num_erased

    def fill(self, index: int, tokens: list[int]) -> None:
        """Note what an idle slot's cache holds now."""
        assert not self._slots[index].is_busy
        self._slots[index].tokens[:] = tokens

    def make_idle_room(self, num_cells: int) -> bool:
        """Free so many cells at the cost of idle slots' caches alone; False when they aren't enough."""
        while self._slots.num_free_cells < num_cells:
            if not self._give_up_an_idle_cache():
                return False
        return True

    def take_edits(self) -> list[Cut | Copy]:
        """Return what must be done to the cache before anything else is; the caller does it."""
        edits, self._edits = self._edits, []
        return edits

    # -- planning ---------------------------------------------------------------------------------------------------

    def schedule(self, now: float) -> Batch:
        """Plan the next step; a batch without entries means that there is nothing to do."""
        batch = Batch()
        self._admit(now)
        generating = [sequence for sequence in self._running if sequence.num_pending == 1]
        for sequence in generating:
            if sequence.slot is not None and self._make_room(sequence, batch):
                self._append(batch, sequence, 1)
        budget = self._num_prefill_beside_decode if batch.entries else self._n_batch
        budget = min(budget, self._n_batch - len(batch.entries))
        for sequence in [s for s in self._running if s.num_pending > 1]:
            if budget > 0 and sequence.slot is not None and self._make_room(sequence, batch):
                count = min(sequence.num_pending, budget, self._slots.num_free_cells)
                self._append(batch, sequence, count)
                budget -= count
        batch.edits = self.take_edits()
        return batch

    def _admit(self, now: float) -> None:
        for sequence in list(self._waiting):
            place = self._place_for(sequence)
            if place is None and sequence.request.slot is not None:
                continue  # others needn't wait for the slot that this one wants
            if place is None or self._is_worth_waiting(sequence, place):
                return
            slot, keep = place.slot, place.keep
            promised = sum(other.num_pending for other in self._running)
            # What the slot itself keeps is counted as idle but won't be given up; what it shares is counted twice.
            num_kept = 0 if place.donor else keep
            available = self._slots.num_free_cells + self._slots.num_idle_cells - num_kept
            if self._running and len(sequence.tokens) - num_kept + promised >= available:
                return
            self._waiting.remove(sequence)
            if num_kept < len(slot.tokens):
                self._edits.append(Cut(slot.index, num_kept))
            if place.donor:
                self._edits.append(Copy(place.donor.index, slot.index, keep))
            self._slots.acquire(place)
            sequence.slot = slot.index
            sequence.num_computed = keep
            if sequence.started_at is None:
                sequence.started_at = now
                sequence.num_cached = keep
            if sequence.request.wants_progress and sequence.num_generated == 0:
                self._news.append((sequence, _progress(sequence, now)))
            self._running.append(sequence)

    def _place_for(self, sequence: Sequence) -> Place | None:
        place = self._slots.best_for(sequence.tokens, wanted=sequence.request.slot)
        if place is not None and not sequence.request.cache_prompt:
            return Place(place.slot, 0)
        return place

    def _is_worth_waiting(self, sequence: Sequence, place: Place) -> bool:
        """Whether a prompt that is being computed will soon have much more of this one's beginning to share."""
        if not (self._is_cuttable and sequence.request.cache_prompt):
            return False
        return any(
            common_prefix_length(other.tokens, sequence.tokens) - max(place.keep, other.num_computed) >= _WORTH_WAITING
            for other in self._running
            if other.num_pending > 1
        )

    def _make_room(self, sequence: Sequence, batch: Batch) -> bool:
        """Free a cell for `sequence`, at the cost of idle caches, then of the youngest; False when it was the cost."""
        planned = {id(part) for part, _count in batch.parts}
        while self._slots.num_free_cells == 0:
            if self._give_up_an_idle_cache():
                continue
            youngest = next(other for other in reversed(self._running) if id(other) not in planned)
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _give_up_an_idle_cache(self) -> bool:
        evicted = self._slots.evict()
        if evicted is not None:
            self._edits.append(Cut(evicted.index, 0))
        return evicted is not None

    def _preempt(self, sequence: Sequence) -> None:
        self.forget_cache(sequence)
        self._stop(sequence)
        sequence.slot = None
        sequence.num_computed = 0
        self._waiting.appendleft(sequence)

    def _append(self, batch: Batch, sequence: Sequence, count: int) -> None:
        assert sequence.slot is not None
        start, end = sequence.num_computed, sequence.num_computed + count
        is_last = end == len(sequence.tokens)
        for position in range(start, end):
            wants_logits = is_last and position == end - 1
            batch.entries.append(BatchEntry(sequence.tokens[position], position, sequence.slot, wants_logits))
        self._slots[sequence.slot].tokens += sequence.tokens[start:end]
        batch.parts.append((sequence, count))
        if is_last:
            batch.outputs.append((sequence, len(batch.entries) - 1))

    # -- outcome ----------------------------------------------------------------------------------------------------

    def commit(self, batch: Batch, sampled: Iterable[Sampled], now: float) -> list[Outcome]:
        """Take a step that was computed and the tokens sampled from it; return the events for the clients.

        A sequence's `Finished` is its last event, and the scheduler has forgotten it then.
        """
        for sequence, count in batch.parts:
            sequence.num_computed += count
        outcomes, self._news = self._news, []
        for sequence, _count in batch.parts:
            if sequence.request.wants_progress and sequence.num_generated == 0:
                outcomes.append((sequence, _progress(sequence, now)))
        for choice in sampled:
            self._take(choice, now, outcomes)
        return outcomes

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
            self._finish(sequence, FinishReason.END_OF_TEXT, now, outcomes)
            return
        text = sequence.text.feed(choice.piece)
        timings = sequence.timings(now) if request.wants_timings else None
        probs = (choice.probs,) if choice.probs else ()
        outcomes.append((sequence, TextDelta(text, (choice.token,), probs, _slot(sequence), timings)))
        if sequence.text.stopping_string:
            self._finish(sequence, FinishReason.STOP_STRING, now, outcomes)
            return
        is_over = self._is_out_of_time(sequence, choice.piece, now) or sequence.num_generated == request.max_tokens
        if is_over or len(sequence.tokens) >= self._n_ctx:
            self._finish(sequence, FinishReason.LENGTH, now, outcomes)

    def _is_out_of_time(self, sequence: Sequence, piece: bytes, now: float) -> bool:
        """Whether this piece ends a line and the time for generating is over (llama.cpp's `t_max_predict_ms`)."""
        if b"\n" not in piece:
            return False
        sequence.has_new_line = True
        limit, started = sequence.request.max_seconds, sequence.first_token_at
        return limit is not None and started is not None and now - started > limit

    def _finish(self, sequence: Sequence, reason: FinishReason, now: float, outcomes: list[Outcome]) -> None:
        rest = sequence.text.finish()
        if rest:
            outcomes.append((sequence, TextDelta(rest, (), slot=_slot(sequence))))
        finished = Finished(reason, sequence.timings(now), sequence.text.stopping_string, _slot(sequence))
        outcomes.append((sequence, finished))
        self._stop(sequence)

    def _stop(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._running.remove(sequence)
        self._slots.release(self._slots[sequence.slot])


def _slot(sequence: Sequence) -> int:
    return -1 if sequence.slot is None else sequence.slot


def _progress(sequence: Sequence, now: float) -> Progress:
    return Progress(len(sequence.request.prompt_tokens), sequence.timings(now), _slot(sequence))
