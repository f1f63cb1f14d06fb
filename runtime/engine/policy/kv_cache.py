"""The KV cache as the scheduler sees it: slots, caches that are parked, and the edits that bring both about.

All slots share one pool of cells. When the pool runs out, the caches of idle slots go first, and a cache that has to go
is parked if it is worth it. Edits are noted here in their order; whoever asked for them has them carried out
(`take_edits`).
"""

from runtime.engine.policy.parking import ParkingLot
from runtime.engine.policy.sequence import Sequence
from runtime.engine.policy.slots import Place, Slot, Slots
from runtime.engine.values.edits import Copy, Cut, Edit, Park, Restore, Shift

# A cache is parked, and brought back, for at least so many tokens.
_WORTH_PARKING = 32
# So many tokens a shift leaves beside those that a request wants to keep, as in llama.cpp.
_NUM_NEVER_KEPT = 4


class KVCache:
    """Owns the slots. `can_shift`: the model's memory can drop the middle of a sequence."""

    def __init__(
        self, num_slots: int, num_cells: int, *, is_cuttable: bool, can_shift: bool = True, parking_bytes: int = 0
    ) -> None:
        self.slots = Slots(num_slots, num_cells, is_cuttable=is_cuttable)
        self._lot = ParkingLot(parking_bytes, is_cuttable=is_cuttable)
        self._is_cuttable = is_cuttable
        self._can_shift = can_shift
        self._edits: list[Edit] = []

    def take_edits(self) -> list[Edit]:
        """Return what must be done to the cache before anything else is; the caller does it."""
        edits, self._edits = self._edits, []
        return edits

    def tidy(self) -> None:
        """Take in the copies that were made since the last time."""
        self._lot.tidy()

    # -- places -----------------------------------------------------------------------------------------------------

    def place_for(self, sequence: Sequence) -> Place | None:
        """Return where a waiting sequence is best computed; None when there is no place for it now."""
        wanted = sequence.params.slot
        place = self.slots.best_for(sequence.tokens, wanted=wanted, lora=sequence.lora)
        if place is None or not sequence.params.uses_cache:
            return place and Place(place.slot, 0)
        found = self._lot.best_for(sequence.tokens, sequence.lora)
        if found and found[1] >= place.keep + _WORTH_PARKING:
            parked, keep = found
            spare = self.slots.spare_for(len(parked.tokens), wanted=wanted)
            if spare:
                return Place(spare, keep, parked=parked)
        return place

    def acquire(self, place: Place, sequence: Sequence) -> None:
        """Take a slot and note what makes it ready."""
        slot = place.slot
        keep = sequence.position(place.keep)
        if 2 * place.num_kept < len(slot.tokens):  # what goes is another conversation, not the end of this one
            self._park(slot)
        if place.num_kept < len(slot.tokens):
            self.cut(slot, sequence.position(place.num_kept))
        if place.donor:
            self._edits.append(Copy(place.donor.index, slot.index, keep))
        if place.parked:
            self._lot.take(place.parked)
            self._edits.append(Restore(slot.index, place.parked))
            if place.keep < len(place.parked.tokens):
                self.cut(slot, keep)
        self.slots.acquire(place, sequence.lora)

    def release(self, slot: Slot) -> None:
        self.slots.release(slot)
        if slot.is_shifted:  # of no use to any other text
            self.give_up(slot)

    def erase(self, index: int) -> int:
        """Empty an idle slot; return how many tokens it held."""
        slot = self.slots[index]
        assert not slot.is_busy
        num_erased = len(slot.tokens)
        self.clear(slot)
        return num_erased

    def fill(self, index: int, tokens: list[int]) -> None:
        """Note what an idle slot's cache holds now, computed without adapters."""
        slot = self.slots[index]
        assert not slot.is_busy
        slot.tokens[:] = tokens
        slot.lora = ()

    # -- what goes --------------------------------------------------------------------------------------------------

    def cut(self, slot: Slot, keep: int) -> None:
        """Note that all of a slot but its first `keep` positions is to be dropped."""
        self._edits.append(Cut(slot.index, keep))

    def clear(self, slot: Slot) -> None:
        """Empty a slot; nothing of it is parked."""
        slot.clear()
        self.cut(slot, 0)

    def give_up(self, slot: Slot) -> None:
        """Empty a slot, whose cache is parked if it is worth it."""
        self._park(slot)
        self.clear(slot)

    def give_up_an_idle_cache(self) -> bool:
        """Empty the idle slot that was not used for the longest time; False when there is nothing to give up."""
        slot = self.slots.next_to_give_up()
        if slot is not None:
            self.give_up(slot)
        return slot is not None

    def make_idle_room(self, num_cells: int) -> bool:
        """Free so many cells at the cost of idle slots' caches alone; False when they aren't enough."""
        while self.slots.num_free_cells < num_cells:
            if not self.give_up_an_idle_cache():
                return False
        return True

    def _park(self, slot: Slot) -> None:
        """Have a cache copied out that is about to be lost, if it is worth it."""
        is_worth_it = len(slot.tokens) >= _WORTH_PARKING and not slot.is_shifted and not slot.has_media
        if self._lot.is_open and is_worth_it and not self.slots.is_held_twice(slot):
            self._edits.append(Park(slot.index, self._lot.add(slot.tokens, slot.lora), self._lot.limit_bytes))

    # -- context shift ----------------------------------------------------------------------------------------------

    def shift(self, sequence: Sequence, *, n_ctx: int, num_always_kept: int) -> bool:
        """Drop tokens after those that are kept, half of them if the request doesn't say; False when none can go."""
        assert sequence.slot is not None
        if sequence.media:  # a picture's place in the prompt is fixed
            return False
        slot, params = self.slots[sequence.slot], sequence.params
        wanted = params.n_keep if params.n_keep >= 0 else sequence.num_prompt_tokens
        keep = min(wanted + num_always_kept, n_ctx - _NUM_NEVER_KEPT)
        num_left = len(sequence.tokens) - 1 - keep
        discard = min(params.n_discard or num_left // 2, num_left - 1)
        if discard < 1:
            return False
        del sequence.tokens[keep : keep + discard]
        sequence.draft = ()
        sequence.is_truncated = True
        # A cell has one position, whoever shares it: those that would move must be this slot's alone.
        if self._can_shift and max(slot.num_shared, keep) <= keep + discard <= sequence.num_computed:
            self._edits.append(Shift(slot.index, keep, discard))
            del slot.tokens[keep : keep + discard]
            slot.num_shared = min(slot.num_shared, keep)
            slot.is_shifted = True
            sequence.num_computed -= discard
        else:
            rest = min(keep, sequence.num_computed) if self._is_cuttable and not slot.is_shifted else 0
            self.cut(slot, rest)
            del slot.tokens[rest:]
            sequence.num_computed = rest
        return True
